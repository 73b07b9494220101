"""Evaluation on real video with the field's standard metrics; the ground truth is another video."""
