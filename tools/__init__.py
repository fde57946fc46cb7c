"""What `make` and people run beside the shop. Nothing here needs a test."""
