"""Runs that are started from Python: the program, its events, the values handed to and fro."""
