"""What an encoder can be tuned for: one file an objective."""
