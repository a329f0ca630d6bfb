"""The worker's process: it builds one step and calls it."""
