"""The ring of captured windows on the disk: bounded, and readable after a power cut. It has no numpy."""
