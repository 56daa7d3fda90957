"""Jobs that the command line and the pipelines share: from a config to a result on disk."""
