"""The networks and the mathematics of EmotiveTalk: PyTorch and diffusers, no Ray, no media files."""
