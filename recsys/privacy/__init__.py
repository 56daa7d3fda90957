"""Forget people, and prove that nobody is named any more."""
