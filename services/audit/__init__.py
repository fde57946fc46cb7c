"""``python -m services audit`` compares what the services and Stripe have stored, order by order.

It reads every service's database directly, as an operator may and a service may not.
"""
