"""Generated from proto/emotivetalk/v1 by scripts/generate_proto.sh: the messages and stubs of the gRPC interface."""
