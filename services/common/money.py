"""Amounts of money for people."""

from __future__ import annotations

_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}


def money(cents: int, currency: str) -> str:
    """An amount as the shop writes it, on pages and in mails: ``€ 24.95``."""
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(cents), 100)
    return f"{sign}{_SYMBOLS.get(currency, currency)} {whole:,}.{rest:02}"
