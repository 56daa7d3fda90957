"""From candidates to ranked lists: features, scorers, rules."""
