"""What makes Core ML packages: the front ends, the compression, the package as written to disk."""
