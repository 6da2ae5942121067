"""Measurements of what dropout and training cost, here and in other libraries."""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
