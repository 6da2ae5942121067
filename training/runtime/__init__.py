"""The runtime of a run: devices, processes, signals, checkpoints, compilation."""
