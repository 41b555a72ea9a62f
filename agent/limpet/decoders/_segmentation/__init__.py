"""Masks of a picture: their areas, outlines, run lengths and PNGs. Each bounds its work and its result."""
