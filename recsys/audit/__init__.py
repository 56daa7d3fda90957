"""Checks of a run for data leakage."""
