"""Meshmart: nine small services that make one shop."""
