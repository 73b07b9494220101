"""Training data: batches, augmentation, and cached latents of the frozen encoders."""
