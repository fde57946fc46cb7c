"""Stripe's test payment methods and what each does.

Sources: docs.stripe.com/testing and docs.stripe.com/declines/codes. Stripe documents some declining
cards as ``pm_card_visa_chargeDeclined…`` and others without the ``visa``; the sandbox takes both
spellings of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stand_ins.stripe.errors import doc_url


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a card is refused: the members of Stripe's ``card_error``."""

    code: str
    decline_code: str
    message: str
    advice_code: str | None = None
    param: str | None = None

    def members(self) -> dict[str, Any]:
        """The error object without what depends on the payment."""
        error = {
            "advice_code": self.advice_code,
            "code": self.code,
            "decline_code": self.decline_code,
            "doc_url": doc_url(self.code),
            "message": self.message,
            "param": self.param,
            "type": "card_error",
        }
        return {name: value for name, value in error.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TestCard:
    """A card and what it does.

    :ivar refund_is_pending: a refund succeeds some time later, not at once.
    :ivar refund_fails: a refund succeeds, and fails some time later.
    :ivar disputes: the charge succeeds, and its owner disputes it at once.
    """

    brand: str
    last4: str
    decline: Decline | None = None
    requires_action: bool = False
    refund_is_pending: bool = False
    refund_fails: bool = False
    disputes: bool = False

    def payment_method(self, identifier: str, created: int) -> dict[str, Any]:
        """The PaymentMethod that Stripe makes of the test card for one payment."""
        return {
            "id": identifier,
            "object": "payment_method",
            "card": {
                "brand": self.brand,
                "country": "US",
                "exp_month": 12,
                "exp_year": 2034,
                "funding": "credit",
                "last4": self.last4,
            },
            "created": created,
            "customer": None,
            "livemode": False,
            "metadata": {},
            "type": "card",
        }


AUTHENTICATION_NOT_HANDLED = Decline(
    code="authentication_required",
    decline_code="authentication_not_handled",
    message="This payment required an authentication action to complete, "
    "but `error_on_requires_action` was set.",
)

_DECLINED = "Your card was declined."
_AGAIN, _NEVER, _CHECK = "try_again_later", "do_not_try_again", "confirm_card_data"

_DECLINING = {
    "": ("0002", Decline("card_declined", "generic_decline", _DECLINED, _AGAIN)),
    "InsufficientFunds": (
        "9995",
        Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.", _AGAIN),
    ),
    "LostCard": ("9987", Decline("card_declined", "lost_card", _DECLINED, _NEVER)),
    "StolenCard": ("9979", Decline("card_declined", "stolen_card", _DECLINED, _NEVER)),
    "Fraudulent": ("0019", Decline("card_declined", "fraudulent", _DECLINED)),
    "VelocityLimitExceeded": (
        "6975",
        Decline("card_declined", "card_velocity_exceeded", _DECLINED, _AGAIN),
    ),
    "ExpiredCard": (
        "0069",
        Decline("expired_card", "expired_card", "Your card has expired.", _CHECK, "exp_month"),
    ),
    "IncorrectCvc": (
        "0127",
        Decline(
            "incorrect_cvc",
            "incorrect_cvc",
            "Your card's security code is incorrect.",
            _CHECK,
            "cvc",
        ),
    ),
    "ProcessingError": (
        "0119",
        Decline(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
            _AGAIN,
        ),
    ),
}

DECLINED_CARD = "pm_card_chargeDeclined"

CARDS = {
    "pm_card_visa": TestCard("visa", "4242"),
    "pm_card_visa_debit": TestCard("visa", "5556"),
    "pm_card_mastercard": TestCard("mastercard", "4444"),
    "pm_card_amex": TestCard("amex", "0005"),
    "pm_card_authenticationRequired": TestCard("visa", "3184", requires_action=True),
    "pm_card_pendingRefund": TestCard("visa", "7726", refund_is_pending=True),
    "pm_card_refundFail": TestCard("visa", "5126", refund_fails=True),
    "pm_card_createDispute": TestCard("visa", "0259", disputes=True),
} | {
    f"{prefix}{reason}": TestCard("visa", last4, decline)
    for prefix in ("pm_card_chargeDeclined", "pm_card_visa_chargeDeclined")
    for reason, (last4, decline) in _DECLINING.items()
}
