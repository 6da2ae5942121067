"""Studies, which compare many runs: arms, tasks, statistics, tables and reports."""
