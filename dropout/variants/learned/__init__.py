"""Variants whose rate is learned with the network, or follows what it computes."""
