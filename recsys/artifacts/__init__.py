"""Bundles on disk: published whole, verified when loaded, never unpickled."""
