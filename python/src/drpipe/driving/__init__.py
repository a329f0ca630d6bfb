"""Runs started from Python: the program, its events, and the values that go back and forth."""
