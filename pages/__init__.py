"""The table of variants, and pictures of variants and schedules, for `docs/`.

All of it is made from the registries of `dropout`.
"""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
