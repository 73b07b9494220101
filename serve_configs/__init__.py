"""Ray Serve's YAML, one per deployment target; installed so that `emotivetalk serve` finds it."""
