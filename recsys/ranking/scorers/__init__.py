"""Scorers: from the features of a candidate to the number it is ranked by."""
