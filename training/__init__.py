"""Training without Ray: the stages, the loop that runs them all, optimisers and checkpoints."""
