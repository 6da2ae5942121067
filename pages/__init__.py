"""The table of variants, and pictures of variants and schedules, for `docs/`.

All of it is made from the registries of `dropout`.
"""
