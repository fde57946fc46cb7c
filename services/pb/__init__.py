"""Generated protobuf and gRPC code, one module per proto file (`make proto`)."""
