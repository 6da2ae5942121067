"""Studies, which compare many runs: arms, tasks, statistics, tables and reports."""

import training.record.drawing  # noqa: F401  Before Matplotlib is imported.
