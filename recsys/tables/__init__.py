"""Tables in: schemas, sources, checks, and cuts in time."""
