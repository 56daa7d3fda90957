"""The report: one page that says what the data is, how good the engine is, and what to try next."""
