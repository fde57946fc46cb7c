"""The library that all services share. Nothing in it belongs to one of them.

Each package's docstring says what belongs there. The single modules are used by several packages,
or are about something else.
"""
