"""The shared library of all services; nothing in it belongs to one of them."""
