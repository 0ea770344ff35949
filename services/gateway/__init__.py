"""The gateway: the only door. Moves messages between gRPC streams and NATS; holds nothing that cannot be lost."""
