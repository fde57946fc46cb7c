"""Why an order was refused, in words that help a customer on."""

from __future__ import annotations

from dataclasses import dataclass

from services.common import error_codes
from services.common.errors import HTTP_STATUS, Kind, ShopError
from services.common.money import Money
from services.frontend.service import is_away

_DECLINES = {
    error_codes.INSUFFICIENT_FUNDS: "This card has insufficient funds.",
    error_codes.EXPIRED_CARD: "This card has expired.",
    error_codes.PROCESSING_ERROR: "The bank could not process the payment just now.",
    error_codes.AUTHENTICATION_REQUIRED: (
        "The bank wants to confirm this payment with you first, which this shop does not offer."
    ),
}
_DECLINED = "The bank declined this card."
_NOT_CHARGED = "You were not charged. Please choose another way to pay; your cart has not changed."


@dataclass(frozen=True, slots=True)
class OrderRefusal:
    """What to tell the customer, and the HTTP status to tell it with.

    :param is_final: there is no order and there will be none; False when nobody knows.
    """

    status: int
    text: str
    is_final: bool = True


def explained(error: ShopError) -> OrderRefusal:
    """The refusal of an order for its customer."""
    status = HTTP_STATUS[error.kind]
    if is_away(error) and "order_id" not in error.fields:
        return OrderRefusal(
            503,
            "We could not reach every part of the shop, so we do not know yet whether your order "
            "went through. Press the button again: it cannot be ordered or charged twice.",
            is_final=False,
        )
    if error.kind is Kind.DECLINED:
        return OrderRefusal(status, f"{_DECLINES.get(error.code, _DECLINED)} {_NOT_CHARGED}")
    if error.code == error_codes.IDEMPOTENCY_KEY_REUSED:
        return OrderRefusal(
            status,
            "You have sent this order before, with different details. Check your orders first: if "
            "it is not there, send this one as a new order.",
        )
    if error.code == error_codes.TOTAL_CHANGED:
        was, now = (
            Money(int(error.fields[name]), error.fields["currency"])
            for name in ("expected_total_cents", "total_cents")
        )
        return OrderRefusal(
            status,
            f"A price has changed: the total was {was}, now it is {now}. Nothing was ordered yet. "
            "Press the button again to order at the new price.",
        )
    if error.code == error_codes.OUT_OF_STOCK:
        return OrderRefusal(
            status,
            "Somebody was faster: not everything is available any more. You were not charged.",
        )
    return OrderRefusal(status, error.detail)
