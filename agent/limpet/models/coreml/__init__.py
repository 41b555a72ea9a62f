"""What a Core ML model's file says, read without running it."""
