"""A class of three on the cluster. The tests of this folder share it (conftest.py)."""
