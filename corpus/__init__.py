"""Training data: the record schema, the synthetic corpus of speaking avatars, and prepared real video."""
