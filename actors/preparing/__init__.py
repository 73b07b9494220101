"""Prepare real video with Ray Data: many files at a time, on one machine or many."""
