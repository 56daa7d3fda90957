"""Ranked recommendations from a shop's texts and behaviour logs."""
