"""Observing: logs, metrics and traces."""
