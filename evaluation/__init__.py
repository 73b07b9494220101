"""How good a checkpoint is: the reader that measures frames, metrics, and the report."""
