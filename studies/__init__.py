"""Many runs as one study: its arms, tasks, statistics, tables and report."""
