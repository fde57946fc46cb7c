"""Labs with checks: each starts from a known state, often a broken one, and is
checked by the shop's traffic and its books. ``python -m labs`` runs them.
"""
