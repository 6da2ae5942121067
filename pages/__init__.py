"""The table of variants, and pictures of variants and schedules, for `docs/`.

The registries of `dropout` determine all of them.
"""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
