"""File formats: pictures, sound, video, faces, muxing, provenance. No networks, no Ray."""
