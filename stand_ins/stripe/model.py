"""PaymentIntents, refunds and disputes: their states, the rules between them, and their JSON.

Sources: docs.stripe.com/api/payment_intents/object,
docs.stripe.com/payments/paymentintents/lifecycle, docs.stripe.com/api/refunds/object,
docs.stripe.com/api/disputes/object.
Nothing here does I/O. A transition returns the changed intent or raises the `ApiError` that
Stripe would answer. Amounts are in the currency's smallest unit (cents).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from stand_ins.stripe.cards import AUTHENTICATION_NOT_HANDLED, Decline, TestCard
from stand_ins.stripe.errors import ApiError, invalid, unexpected_state

MAX_AMOUNT = 99_999_999

# How long the test cards whose refund changes "some time later" (docs.stripe.com/testing#refunds)
# take for that here.
REFUND_CHANGES_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Currency:
    symbol: str
    min_amount: int  # docs.stripe.com/currencies#minimum-and-maximum-charge-amounts


CURRENCIES = {
    "chf": Currency("CHF ", 50),
    "eur": Currency("€", 50),
    "gbp": Currency("£", 30),
    "usd": Currency("$", 50),
}


class Status(StrEnum):
    """Where a payment stands. No test card is ever seen in Stripe's seventh, ``processing``."""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    REQUIRES_CAPTURE = "requires_capture"
    CANCELED = "canceled"
    SUCCEEDED = "succeeded"


CONFIRMABLE = (
    Status.REQUIRES_PAYMENT_METHOD,
    Status.REQUIRES_CONFIRMATION,
    Status.REQUIRES_ACTION,
)
CANCELABLE = (*CONFIRMABLE, Status.REQUIRES_CAPTURE)


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def formatted(amount: int, currency: str) -> str:
    """An amount as Stripe writes it in messages: €12.34."""
    return f"{CURRENCIES[currency].symbol}{amount / 100:,.2f}"


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """One payment. `card` is the test payment method's name, which no answer tells again."""

    id: str
    client_secret: str
    created: int
    amount: int
    currency: str
    capture_method: str
    payment_method_types: list[str]
    automatic_payment_methods: dict[str, Any] | None
    status: Status
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    card: str | None = None
    payment_method: str | None = None
    latest_charge: str | None = None
    amount_capturable: int = 0
    amount_received: int = 0
    last_payment_error: dict[str, Any] | None = None
    next_action: dict[str, Any] | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))  # a plain string when read back

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.amount_capturable,
            "amount_details": {"tip": {}},
            "amount_received": self.amount_received,
            "application": None,
            "application_fee_amount": None,
            "automatic_payment_methods": self.automatic_payment_methods,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "client_secret": self.client_secret,
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": None,
            "description": self.description,
            "last_payment_error": self.last_payment_error,
            "latest_charge": self.latest_charge,
            "livemode": False,
            "metadata": self.metadata,
            "next_action": self.next_action,
            "on_behalf_of": None,
            "payment_method": self.payment_method,
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": self.payment_method_types,
            "processing": None,
            "receipt_email": None,
            "review": None,
            "setup_future_usage": None,
            "shipping": None,
            "source": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": self.status,
            "transfer_data": None,
            "transfer_group": None,
        }

    def with_card(self, name: str) -> PaymentIntent:
        """The intent with another payment method, to be confirmed."""
        return replace(
            self,
            card=name,
            payment_method=new_id("pm"),
            status=Status.REQUIRES_CONFIRMATION,
            next_action=None,
        )

    def allows_redirects(self) -> bool:
        """Whether a confirmation must say where to send the customer back to."""
        automatic = self.automatic_payment_methods
        return automatic is not None and automatic["allow_redirects"] == "always"


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back.

    :ivar then: what its status changes to, at the time `then_at`.
    """

    id: str
    created: int
    amount: int
    currency: str
    charge: str
    payment_intent: str
    reason: str | None
    metadata: dict[str, str]
    status: str = "succeeded"
    then: str | None = None
    then_at: int = 0

    def at(self, now: int) -> Refund:
        """The refund as it is by then."""
        if self.then is None or now < self.then_at:
            return self
        return replace(self, status=self.then, then=None)

    def json(self) -> dict[str, Any]:
        reasons: Mapping[str, dict[str, str]] = {
            "failed": {"failure_reason": "unknown"},
            "pending": {"pending_reason": "processing"},
        }
        return {
            **reasons.get(self.status, {}),
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": None,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "destination_details": {
                "card": {"reference_status": "pending", "type": "refund"},
                "type": "card",
            },
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "reason": self.reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": self.status,
            "transfer_reversal": None,
        }


@dataclass(frozen=True, slots=True)
class Dispute:
    """A charge that its card's owner wants back from the bank."""

    id: str
    created: int
    amount: int
    currency: str
    charge: str
    payment_intent: str

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "dispute",
            "amount": self.amount,
            "balance_transactions": [],
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": {},
            "payment_intent": self.payment_intent,
            "reason": "fraudulent",
            "status": "needs_response",
        }


def check_amount(amount: int, currency: str) -> None:
    """:raises StripeError: for a currency or an amount that no charge can have."""
    known = CURRENCIES.get(currency)
    if known is None:
        raise invalid(
            f"Invalid currency: {currency}. The sandbox supports: {', '.join(CURRENCIES)}",
            param="currency",
        )
    if amount < known.min_amount:
        least = formatted(known.min_amount, currency)
        raise invalid(
            f"Amount must be at least {least} {currency}", code="amount_too_small", param="amount"
        )
    if amount > MAX_AMOUNT:
        most = formatted(MAX_AMOUNT, currency)
        raise invalid(
            f"Amount must be no more than {most}", code="amount_too_large", param="amount"
        )


def check_return_url(intent: PaymentIntent, return_url: str | None) -> None:
    """By default a payment method may redirect, which a server that confirms has to rule out."""
    if intent.allows_redirects() and return_url is None:
        raise invalid(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. "
            "Because some of these payment methods might redirect your customer off of your page, "
            "you must provide a `return_url`. If you don't want to accept redirect-based payment "
            "methods, set `automatic_payment_methods[enabled]` to `true` and "
            "`automatic_payment_methods[allow_redirects]` to `never`."
        )


def check_confirmable(intent: PaymentIntent) -> None:
    _check_status(intent, CONFIRMABLE, "confirm", "confirmed")


def confirm(
    intent: PaymentIntent,
    card: TestCard,
    now: int,
    *,
    error_on_requires_action: bool,
    return_url: str | None,
) -> tuple[PaymentIntent, ApiError | None]:
    """Asks the card. The intent is to be saved also when the second value is a refusal."""
    if card.requires_action and error_on_requires_action:
        return _refused(intent, card, AUTHENTICATION_NOT_HANDLED, None, now)
    if card.requires_action:
        action = _next_action(intent, return_url)
        return replace(intent, status=Status.REQUIRES_ACTION, next_action=action), None
    charge = new_id("ch")
    if card.decline is not None:
        return _refused(intent, card, card.decline, charge, now)
    charged = replace(intent, latest_charge=charge, last_payment_error=None, next_action=None)
    if intent.capture_method == "manual":
        authorized = replace(
            charged, status=Status.REQUIRES_CAPTURE, amount_capturable=intent.amount
        )
        return authorized, None
    return replace(charged, status=Status.SUCCEEDED, amount_received=intent.amount), None


def capture(intent: PaymentIntent, amount_to_capture: int | None) -> PaymentIntent:
    """Takes what was authorized, or less of it; the rest is released."""
    if intent.status is not Status.REQUIRES_CAPTURE:
        reason = (
            "it has already been captured."
            if intent.status is Status.SUCCEEDED
            else f"it has a status of {intent.status}. "
            + _only((Status.REQUIRES_CAPTURE,), "captured")
        )
        raise unexpected_state(
            f"This PaymentIntent could not be captured because {reason}", intent.json()
        )
    amount = intent.amount_capturable if amount_to_capture is None else amount_to_capture
    if amount > intent.amount_capturable:
        raise invalid(
            "The payment could not be captured because the requested capture amount is greater "
            "than the amount you can capture for this charge.",
            code="amount_too_large",
            param="amount_to_capture",
            details={"payment_intent": intent.json()},
        )
    return replace(intent, status=Status.SUCCEEDED, amount_capturable=0, amount_received=amount)


def cancel(intent: PaymentIntent, reason: str | None, now: int) -> PaymentIntent:
    """Ends a payment that was not captured and releases what was authorized."""
    _check_status(intent, CANCELABLE, "cancel", "canceled")
    return replace(
        intent,
        status=Status.CANCELED,
        amount_capturable=0,
        canceled_at=now,
        cancellation_reason=reason,
        next_action=None,
    )


def dispute(intent: PaymentIntent, card: TestCard, now: int) -> Dispute | None:
    """What the owner of the card does about a charge that has succeeded."""
    if not card.disputes or intent.status is not Status.SUCCEEDED or intent.latest_charge is None:
        return None
    return Dispute(
        id=new_id("du"),
        created=now,
        amount=intent.amount_received,
        currency=intent.currency,
        charge=intent.latest_charge,
        payment_intent=intent.id,
    )


def refund(
    intent: PaymentIntent,
    refunded_before: int,
    amount: int | None,
    now: int,
    *,
    card: TestCard,
    is_disputed: bool,
    reason: str | None,
    metadata: Mapping[str, str],
) -> Refund:
    """Gives back what was captured, or a part of what is left of it."""
    if intent.status is Status.REQUIRES_CAPTURE:
        raise invalid(
            f"Charge {intent.latest_charge} has not been captured. Cancel the PaymentIntent "
            f"({intent.id}) instead to release the authorized amount."
        )
    if intent.latest_charge is None or intent.status is not Status.SUCCEEDED:
        raise invalid(
            f"This PaymentIntent ({intent.id}) does not have a successful charge to refund."
        )
    if is_disputed:
        raise invalid(
            f"Charge {intent.latest_charge} has been charged back; cannot issue a refund.",
            code="charge_disputed",
        )
    left = intent.amount_received - refunded_before
    if left == 0:
        raise invalid(
            f"Charge {intent.latest_charge} has already been refunded.",
            code="charge_already_refunded",
        )
    if amount is not None and amount > left:
        asked, most = formatted(amount, intent.currency), formatted(left, intent.currency)
        raise invalid(
            f"Refund amount ({asked}) is greater than unrefunded amount on charge ({most})",
            param="amount",
        )
    return Refund(
        id=new_id("re"),
        created=now,
        amount=left if amount is None else amount,
        currency=intent.currency,
        charge=intent.latest_charge,
        payment_intent=intent.id,
        reason=reason,
        metadata=dict(metadata),
        status="pending" if card.refund_is_pending else "succeeded",
        then="succeeded" if card.refund_is_pending else "failed" if card.refund_fails else None,
        then_at=now + REFUND_CHANGES_SECONDS,
    )


def _refused(
    intent: PaymentIntent, card: TestCard, decline: Decline, charge: str | None, now: int
) -> tuple[PaymentIntent, ApiError]:
    members = decline.members()
    if charge is not None:
        members["charge"] = charge
    members["payment_method"] = card.payment_method(
        intent.payment_method or new_id("pm"), created=now
    )
    refused = replace(
        intent,
        status=Status.REQUIRES_PAYMENT_METHOD,
        card=None,
        payment_method=None,
        latest_charge=charge or intent.latest_charge,
        last_payment_error=members,
        next_action=None,
    )
    told = ("advice_code", "charge", "decline_code", "payment_method")
    details = {name: members[name] for name in told if name in members}
    error = ApiError(
        402,
        "card_error",
        decline.message,
        code=decline.code,
        param=decline.param,
        details=details | {"payment_intent": refused.json()},
    )
    return refused, error


def _next_action(intent: PaymentIntent, return_url: str | None) -> dict[str, Any]:
    """Where the customer would authenticate; the sandbox has no bank to do it at."""
    if return_url is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    url = f"https://hooks.stripe.com/3d_secure_2/hosted?payment_intent={intent.id}"
    return {
        "type": "redirect_to_url",
        "redirect_to_url": {"return_url": return_url, "url": url},
    }


def _check_status(
    intent: PaymentIntent, allowed: tuple[Status, ...], verb: str, participle: str
) -> None:
    if intent.status not in allowed:
        raise unexpected_state(
            f"You cannot {verb} this PaymentIntent because it has a status of {intent.status}. "
            f"{_only(allowed, participle)}",
            intent.json(),
        )


def _only(statuses: tuple[Status, ...], participle: str) -> str:
    names = ", ".join(statuses)
    return f"Only a PaymentIntent with one of the following statuses may be {participle}: {names}."
