"""Durable jobs: the job store, the artifact store, and webhooks."""
