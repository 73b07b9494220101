"""A training run: its configuration, the loop, the trainer, logs and the divergence check."""
