"""Training stages: one module per stage, the losses and the validation measures that they share."""
