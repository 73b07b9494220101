"""HTTP: OpenAI's `/v1/videos`, events, streams and playlists, on FastAPI."""
