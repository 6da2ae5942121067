"""The table of variants, and pictures of variants and schedules, for `docs/`.

The registries of `dropout` determine all of them.
"""

import training.record.drawing  # noqa: F401  Before Matplotlib is imported.
