"""Payments: their documents and rules. An order has one payment, with the order's id.

A payment's state is stored before the request to Stripe that it announces. So after a crash the
request is sent again with the same idempotency key, and a cancellation always knows whether there
may be something to undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self, TypedDict, Unpack

from services.common.background.rechecks import next_look_ms
from services.common.documents import Collection, Document, Index
from services.common.errors import Kind, ShopError
from services.common.money import CURRENCY

PAYMENTS = Collection("payments", indexes=(Index("refunds", order="refund_look_ms"),))
RECONCILED = Collection("reconciled")


class PaymentState(StrEnum):
    """Where a payment stands. Those in -ing announce a request to Stripe whose answer is not stored
    yet.
    """

    AUTHORIZING = "authorizing"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    CANCELLING = "cancelling"
    VOIDED = "voided"
    REFUNDED = "refunded"
    # Ends as well. The bank takes the charge back, so that the shop must not; and the card takes no
    # refund, so that a person pays the money back another way.
    DISPUTED = "disputed"
    REFUND_FAILED = "refund_failed"


# What a cancellation ends in.
CANCELLED = frozenset(
    {PaymentState.VOIDED, PaymentState.REFUNDED, PaymentState.DISPUTED, PaymentState.REFUND_FAILED}
)
CLOSED = CANCELLED | {PaymentState.CANCELLING}
# A request that learns the payment's intent may be under way.
INTENT_OPEN = frozenset({PaymentState.AUTHORIZING, PaymentState.CANCELLING})


class Refusal(Document):
    """Why Stripe refused, for the customer."""

    kind: Kind
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class AuthorizePayment:
    """The command to set an order's total aside on the customer's card."""

    order_id: str
    user_id: str
    amount_cents: int
    currency: str
    payment_method: str


class PaymentChanges(TypedDict, total=False):
    user_id: str
    payment_method: str
    state: PaymentState
    attempt: int
    intent_id: str | None
    refusal: Refusal | None
    refunded_ms: int | None
    refund_look_ms: int | None
    is_disputed: bool


class Payment(Document):
    """The payment of one order.

    :param attempt: part of the idempotency key of the authorization. It moves on only after Stripe
        answered with an error of its own, which it would repeat for the old key for ever, and no
        authorization was found.
    :param refunded_ms: when its refund was asked for.
    :param refund_look_ms: when Stripe is asked again what has become of that; absent when it is not
        any more.
    :param is_disputed: whether the card's owner wants the charge back from the bank.
    """

    id: str
    user_id: str
    amount_cents: int
    currency: str
    payment_method: str
    state: PaymentState
    created_ms: int
    attempt: int = 1
    intent_id: str | None = None
    refusal: Refusal | None = None
    refunded_ms: int | None = None
    refund_look_ms: int | None = None
    is_disputed: bool = False

    @property
    def authorize_key(self) -> str:
        """The idempotency key of the authorization."""
        return f"{self.id}:authorize:{self.attempt}"

    def changed(self, **to: Unpack[PaymentChanges]) -> Self:
        return self._changed(to)


class Reconciled(Document):
    """Up to when everything in a list of Stripe's is settled: Unix seconds, by Stripe's clock."""

    INTENTS: ClassVar[str] = "stripe"
    DISPUTES: ClassVar[str] = "disputes"

    id: str
    until_seconds: int


class Declined(ShopError):
    """Stripe refused the payment for good: another try with the same method is refused again."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.kind, refusal.code, refusal.detail)
        self.refusal = refusal


def is_same(payment: Payment, wanted: Payment) -> bool:
    """Whether a payment is the one that is asked for. How a recovered one was paid is not known."""
    return (payment.amount_cents, payment.currency) == (wanted.amount_cents, wanted.currency) and (
        payment.payment_method in {wanted.payment_method, ""}
    )


def closed() -> ShopError:
    """The order's payment was cancelled; whatever arrives for it now is late."""
    return ShopError(Kind.CONFLICT, "payment-closed", "The payment of this order was cancelled.")


def fence(order_id: str, created_ms: int) -> Payment:
    """Stands for a payment that was cancelled before it was ever asked for, so that a late request
    finds it closed.
    """
    return Payment(
        id=order_id,
        user_id="",
        amount_cents=0,
        currency=CURRENCY,
        payment_method="",
        state=PaymentState.VOIDED,
        created_ms=created_ms,
    )


def requested(command: AuthorizePayment, now_ms: int) -> Payment:
    """A new payment whose authorization is about to be asked for."""
    return Payment(
        id=command.order_id,
        user_id=command.user_id,
        amount_cents=command.amount_cents,
        currency=command.currency,
        payment_method=command.payment_method,
        state=PaymentState.AUTHORIZING,
        created_ms=now_ms,
    )


def under_next_key(payment: Payment) -> Payment:
    """Whose authorization is asked for under another key from now on."""
    return payment.changed(attempt=payment.attempt + 1)


def authorized(payment: Payment, intent_id: str) -> Payment:
    """Stripe has set the amount aside."""
    return payment.changed(state=PaymentState.AUTHORIZED, intent_id=intent_id)


def declined(payment: Payment, refusal: Refusal) -> Payment:
    """Stripe has refused it for good."""
    return payment.changed(state=PaymentState.DECLINED, refusal=refusal)


def known_again(payment: Payment, wanted: Payment) -> Payment:
    """A recovered payment, now that its order says whose it is."""
    return payment.changed(user_id=wanted.user_id, payment_method=wanted.payment_method)


def capturing(payment: Payment) -> Payment:
    """Whose capture is about to be asked for."""
    return payment.changed(state=PaymentState.CAPTURING)


def captured(payment: Payment) -> Payment:
    """Stripe has charged it."""
    return payment.changed(state=PaymentState.CAPTURED)


def cancelling(payment: Payment) -> Payment:
    """Whose void or refund is about to be asked for."""
    return payment.changed(state=PaymentState.CANCELLING)


def voided(payment: Payment) -> Payment:
    """Stripe never set anything aside."""
    return payment.changed(state=PaymentState.VOIDED)


def given_back(payment: Payment, end: PaymentState, intent_id: str, now_ms: int) -> Payment:
    """After Stripe was asked for a void or a refund. A refund is only made so far, so it is looked
    at again.

    :param end: one of CANCELLED.
    """
    ended = payment.changed(state=end, intent_id=intent_id)
    if end is not PaymentState.REFUNDED:
        return ended
    return ended.changed(refunded_ms=now_ms, refund_look_ms=now_ms)


def refund_looked_at(payment: Payment, now_ms: int, *, is_back: bool) -> Payment:
    """After Stripe was asked what has become of a refund.

    :param is_back: whether all of the money is back, or still on its way.
    """
    if not is_back:
        return payment.changed(state=PaymentState.REFUND_FAILED, refund_look_ms=None)
    since_ms = now_ms if payment.refunded_ms is None else payment.refunded_ms
    return payment.changed(refund_look_ms=next_look_ms(since_ms, now_ms))


def disputed(payment: Payment) -> Payment:
    """Whose charge is disputed. Its state stays: the charge does, too, until the bank decides."""
    return payment.changed(is_disputed=True)


def recovered(
    order_id: str, intent_id: str, amount_cents: int, currency: str, created_ms: int
) -> Payment:
    """Returns the payment of an intent that Stripe has and the store does not know any more, since
    it was restored from a copy that is older. Whose it is and how it was paid is not known.
    """
    return Payment(
        id=order_id,
        user_id="",
        amount_cents=amount_cents,
        currency=currency,
        payment_method="",
        state=PaymentState.AUTHORIZED,
        created_ms=created_ms,
        intent_id=intent_id,
    )
