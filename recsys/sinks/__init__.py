"""Where lists for everyone go: one file a kind of store."""
