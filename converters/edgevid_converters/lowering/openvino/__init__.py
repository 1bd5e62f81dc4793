"""The artifact format ``openvino`` (IR)."""
