"""What the auth service keeps, and its rules; no I/O."""
