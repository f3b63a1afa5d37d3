"""Handlers that ship with Callboard, to use and to learn from."""
