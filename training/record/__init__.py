"""What a run writes down: files, metrics, TensorBoard, curves, summary, digests."""
