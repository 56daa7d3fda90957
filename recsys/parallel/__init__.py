"""How many threads compute, and work spread over them."""
