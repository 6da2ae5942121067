"""What dropout and training cost, beside others."""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
