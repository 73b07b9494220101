"""The gateway: HTTP and gRPC over one service that knows neither."""
