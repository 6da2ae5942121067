"""A trained network: inference rules, measures, corruptions, tables and pictures."""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
