"""Real video to clips of the corpus: one file at a time, as plain functions; `actors/preparing/` runs them on many."""
