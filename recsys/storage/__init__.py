"""Files that are whole or absent, whatever happens to the process that writes them."""
