"""A service as a running process: its HTTP and gRPC servers, what they do for every route, and how
the process starts and ends.
"""
