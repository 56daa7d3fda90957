"""Bundles on disk: published atomically, verified when loaded, never unpickled."""
