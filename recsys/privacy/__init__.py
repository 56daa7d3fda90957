"""Forgetting a person, with proof."""
