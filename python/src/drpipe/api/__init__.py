"""The API for authors of steps and of runs."""
