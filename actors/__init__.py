"""Callboard: a worker for message streams, built as an actor system."""
