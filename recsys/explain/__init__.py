"""Why an item is in a list or not; the reasons of a score in words."""
