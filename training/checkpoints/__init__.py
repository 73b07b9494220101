"""Training checkpoints: state to resume from, import, export and provenance."""
