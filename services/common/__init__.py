"""The shared library of all services; nothing in it belongs to one of them.

Each package's docstring says what belongs there. A single module here is one that several of the
packages need, or that stands for itself.
"""
