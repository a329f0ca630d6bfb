"""What the author of a step or of a run uses."""
