"""Replicas: V-AID, ETHD and the decoder as Ray Serve deployments, and the messages between them."""
