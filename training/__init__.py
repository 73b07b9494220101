"""Training without Ray: the stages, one loop for all, its optimisers and its checkpoints."""
