"""Training data: batches, augmentation, and what the frozen encoders give for the corpus."""
