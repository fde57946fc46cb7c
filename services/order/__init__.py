"""order: the checkout saga and the order history."""
