"""What the decoders of pictures share: where boxes are in outputs, which to keep, where they are in the source."""
