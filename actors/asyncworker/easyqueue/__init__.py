"""`asyncworker.easyqueue`."""
