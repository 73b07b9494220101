"""Rendering: the graph of a video's calls, and the director and live calls that run it."""
