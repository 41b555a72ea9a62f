"""What the runtime ``tflite`` needs to run a model: values in and out, and compiled models."""
