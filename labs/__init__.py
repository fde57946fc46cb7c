"""Labs that tell right from wrong: each starts from a known state, often a broken one, and is
judged by what traffic and the books of the shop show. ``python -m labs`` runs them.
"""
