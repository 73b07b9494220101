"""The outside world's formats: pictures, speech, video, faces, muxing, provenance. No networks, no Ray."""
