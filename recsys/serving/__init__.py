"""What services, people and nightly jobs ask of a published bundle."""
