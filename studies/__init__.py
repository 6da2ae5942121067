"""Studies, which compare many runs: arms, tasks, statistics, tables and reports."""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
