"""Evaluation of trained networks: inference rules, measures, tables and pictures."""

import training.record.drawing  # noqa: F401  Before Matplotlib is imported.
