"""``.tflite`` models: the file, the graph in it, and real values into and out of an interpreter."""
