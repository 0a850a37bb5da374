"""What travels: core types as protobuf messages, tensors as raw bytes, errors as gRPC statuses."""
