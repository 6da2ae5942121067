"""Many runs as one study: its tasks, its statistics, its tables and its report."""
