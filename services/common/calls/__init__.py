"""Calls to other services: the clients for HTTP and gRPC, and what guards each call (its deadline,
retries within a budget, the circuit breaker, whose turn it is).
"""
