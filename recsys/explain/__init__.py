"""Why an item is in a list, or is not; reasons in words."""
