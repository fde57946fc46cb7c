"""Accounts, profiles, addresses and groups."""
