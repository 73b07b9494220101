"""gRPC: `emotivetalk.v1`, live calls, health and reflection."""
