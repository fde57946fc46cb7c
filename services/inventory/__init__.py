"""Stock and reservations that never oversell."""
