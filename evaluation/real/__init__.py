"""Real video: the metrics of the field, where there is no truth but another video."""
