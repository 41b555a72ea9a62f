"""What a ``.tflite`` file says, read without running it."""
