"""An executor process: one model on one accelerator."""
