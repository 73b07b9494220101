"""Training data: the record schema, the synthetic corpus of speaking avatars, and reading shards."""
