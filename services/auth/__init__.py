"""Registration, log-in and the signing keys of the shop's tokens."""
