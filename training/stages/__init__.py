"""Training stages: one module per stage, and the losses and validation metrics that they share."""
