"""`asyncworker.sse`."""
