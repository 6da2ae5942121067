"""From disk to a batch: splits, sources, augmentation, batches."""
