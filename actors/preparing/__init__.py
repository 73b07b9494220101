"""Preparing real video with Ray Data: many files at once, over one machine or many."""
