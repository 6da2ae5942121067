"""Evaluation of trained networks: inference rules, measures, tables and pictures."""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
