"""Training runs: configuration, loop, trainer, logs and divergence check."""
