"""How many threads compute, and how work is spread over them."""
