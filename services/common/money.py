"""Amounts of money: their type, their sums and their text.

The shop sells in one currency. Documents and JSON hold an amount as whole cents and the code of its
currency, gRPC as a message.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.pb import shared_pb2

CURRENCY = "EUR"
"""What the shop sells in, by its ISO 4217 code."""

_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in hundredths of a currency."""

    cents: int
    currency: str = CURRENCY

    @classmethod
    def of_message(cls, message: shared_pb2.Money) -> Money:
        """The amount in a gRPC message."""
        return cls(message.cents, message.currency)

    def to_message(self) -> shared_pb2.Money:
        """The amount as a gRPC message."""
        return shared_pb2.Money(cents=self.cents, currency=self.currency)

    @property
    def decimal(self) -> str:
        """The amount for programs, without its currency: ``1234.95``."""
        return f"{self.cents / 100:.2f}"

    def __add__(self, other: Money) -> Money:
        """The sum.

        :raises ValueError: the amounts are of two currencies.
        """
        if other.currency != self.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not add up")
        return Money(self.cents + other.cents, self.currency)

    def __mul__(self, quantity: int) -> Money:
        """The price of that many."""
        return Money(self.cents * quantity, self.currency)

    def __str__(self) -> str:
        """The amount as pages and mails write it: ``€ 1,234.95``."""
        sign = "-" if self.cents < 0 else ""
        symbol = _SYMBOLS.get(self.currency, self.currency)
        return f"{sign}{symbol} {abs(self.cents) / 100:,.2f}"
