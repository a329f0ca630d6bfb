"""The worker process, which builds one step and calls it."""
