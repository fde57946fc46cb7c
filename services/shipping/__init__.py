"""shipping: quotes, shipments and their tracking."""
