"""Measurements of what dropout and training cost, here and in other libraries."""

import training.record.drawing  # noqa: F401  Before Matplotlib is imported.
