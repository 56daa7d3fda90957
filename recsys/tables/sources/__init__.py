"""Where raw tables come from: one file a format or data set."""
