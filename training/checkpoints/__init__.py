"""Checkpoints of training: state to resume from, import, export and provenance."""
