"""A bundle: all that a cluster with the shop takes from the network, in one folder."""
