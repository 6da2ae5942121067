"""The table of variants, and pictures of variants and schedules, for `docs/`.

The registries of `dropout` determine all of them.
"""
