"""From a configuration to a trained network, its checkpoints and its record."""
