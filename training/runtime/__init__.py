"""What a run stands on: devices, processes, signals, checkpoints, compilation."""
