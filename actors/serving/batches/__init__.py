"""Batches of videos: uploaded files, manifests, and the loop that turns rows into jobs."""
