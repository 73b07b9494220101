"""One YAML per training stage and size; installed so that `emotivetalk train` finds it."""
