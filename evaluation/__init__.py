"""A trained network: inference rules, measures, corruptions, tables and pictures."""
