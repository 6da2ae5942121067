"""What dropout and training cost, beside others."""
