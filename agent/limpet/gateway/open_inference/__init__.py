"""The Open Inference Protocol, version 2. What a request means is separate from how it comes: REST or gRPC."""
