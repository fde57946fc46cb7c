"""The pages: thin routes, one module per area of the shop."""
