"""Generated protobuf messages and gRPC stubs of proto/parley/v1. Do not edit: `make proto` writes them."""
