"""Pictures as arrays: their part, their size, their border and their colours, for sources and transforms alike."""
