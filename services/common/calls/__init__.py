"""Calls to other services: the clients for HTTP and gRPC, and the deadlines, retry budgets, circuit
breakers and round robin that all calls use.
"""
