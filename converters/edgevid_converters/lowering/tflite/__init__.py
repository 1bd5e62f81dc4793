"""The artifact format ``tflite``."""
