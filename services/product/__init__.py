"""The catalogue: search, filters, sorting and pictures."""
