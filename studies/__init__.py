"""Many runs as one study: its arms, tasks, statistics, tables and report."""

import training  # noqa: F401  It chooses how matplotlib draws, and comes first.
