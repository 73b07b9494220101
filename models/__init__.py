"""Networks and mathematics of EmotiveTalk: PyTorch and diffusers only, without Ray and without media files."""
