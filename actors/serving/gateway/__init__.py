"""The front door: HTTP and gRPC over one transport-free service."""
