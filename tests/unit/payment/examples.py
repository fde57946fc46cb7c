"""The payment to test with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.payment.model import AuthorizePayment

ORDER = "ord_1"


def a_command(order_id: str = ORDER, **changes: Any) -> AuthorizePayment:
    """Wants 25 EUR from a card that pays."""
    asked = AuthorizePayment(order_id, "usr_ada", 2500, "EUR", "pm_card_visa")
    return replace(asked, **changes)
