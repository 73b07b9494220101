"""Training on many workers: one driver for all stages, Ray Train around DeepSpeed around the loop of `training/`."""
