"""Serving: gateway, director, V-AID, ETHD and decoder as separately autoscaled deployments; durable jobs, artifacts."""
