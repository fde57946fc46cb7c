"""The use cases of the payment service: authorize, capture, cancel. Each can be repeated, in any
process, without a second effect.

A payment that is not in the store may still be at Stripe, because the store may be an older copy.
So a capture or a cancellation of an unknown payment first asks Stripe for an intent of that order.
An authorization need not: it uses the key of the lost payment, for which Stripe returns the same
intent for at least 24 hours (https://docs.stripe.com/api/idempotent_requests), longer than an order
waits for one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import Kind, ShopError
from services.common.observing.label_values import LabelValues
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.payment import model
from services.payment.clients import (
    DECLINE_CODES,
    HOLDS_MONEY,
    NOT_GIVEN_BACK,
    GivenBack,
    Intent,
    IntentStatus,
    Stripe,
    StripeError,
)
from services.payment.model import AuthorizePayment, Declined, Payment, PaymentState, Refusal
from services.payment.store import PaymentStore

log = get_logger(__name__)

_ENDS = {
    GivenBack.VOIDED: PaymentState.VOIDED,
    GivenBack.REFUNDED: PaymentState.REFUNDED,
    GivenBack.DISPUTED: PaymentState.DISPUTED,
    GivenBack.FAILED: PaymentState.REFUND_FAILED,
}

# How often a request begins again because another one for the same payment was quicker.
_ROUNDS = 5
# Beside those that are known, Stripe has some for requests that it refuses.
_MAX_DECLINE_CODES = 20


class Payments:
    """The payments of all orders."""

    def __init__(self, store: PaymentStore, stripe: Stripe, metrics: Metrics) -> None:
        self._store = store
        self._stripe = stripe
        self._outcomes = metrics.counter(
            "payments",
            "Payments that a request brought to a state. What becomes of one later counts in "
            "payment_reversals.",
            ("state",),
            rare=(PaymentState.DISPUTED, PaymentState.REFUND_FAILED),
        )
        self._declines = metrics.counter(
            "payment_declines",
            "Payments that the card's bank or Stripe has refused, by the code that the customer "
            "gets.",
            ("code",),
            rare=DECLINE_CODES,
        )
        self._decline_codes = LabelValues(_MAX_DECLINE_CODES)
        self._recovered = metrics.counter(
            "payments_recovered",
            "Payments that Stripe has and the store had lost, by the request that found them.",
            ("request",),
            rare=("capture", "cancel"),
        )

    async def authorize(self, command: AuthorizePayment) -> Payment:
        """Sets the order's total aside on the customer's card.

        :raises ShopError: DECLINED or INVALID when Stripe refuses, each time with the first answer;
            CONFLICT when the payment was cancelled; UNAVAILABLE when Stripe is away: then try
            again.
        """
        wanted = model.requested(command, now_ms())
        return await _insisted(lambda: self._authorize(wanted))

    async def capture(self, order_id: str) -> Payment:
        """Charges what was authorized.

        :raises ShopError: DECLINED when the authorization is no longer valid; CONFLICT when there
            is none.
        """
        return await _insisted(lambda: self._capture(order_id))

    async def cancel(self, order_id: str) -> Payment:
        """Voids or refunds, whichever the payment needs, and closes it for whatever comes late.

        A refund that Stripe refuses for good ends the payment, too: as DISPUTED or REFUND_FAILED.
        `payments_total` counts these, and each is an error in the log, since a person must look.
        """
        return await _insisted(lambda: self._cancel(order_id))

    async def adopt(self, stored: Stored[Payment], intent_id: str) -> None:
        """Finishes an authorization whose answer was lost.

        :raises RevisionConflict: somebody else was at it after all.
        """
        await self._finish(stored, model.authorized(stored.value, intent_id))

    async def get(self, user_id: str, order_id: str) -> Payment:
        """The payment of one of the user's orders."""
        stored = await self._store.get(order_id)
        if stored is None or stored.value.user_id != user_id:
            raise ShopError(Kind.NOT_FOUND, "unknown-payment", "There is no such payment.")
        return stored.value

    async def _authorize(self, wanted: Payment) -> Payment:
        stored = await self._store.add(wanted) or await self._existing(wanted.id)
        payment = stored.value
        if payment.state in model.CLOSED:
            raise model.closed()
        if not model.is_same(payment, wanted):
            raise ShopError(
                Kind.INVALID, "payment-differs", "This order has another payment already."
            )
        if payment.refusal is not None:
            raise Declined(payment.refusal)
        if payment.state is not PaymentState.AUTHORIZING:
            if payment.user_id:
                return payment
            return (await self._store.save(stored, model.known_again(payment, wanted))).value
        try:
            intent = await self._intent_of(stored)
        except Declined as declined:
            await self._finish(stored, model.declined(payment, declined.refusal))
            self._declines.labels(self._decline_codes.bounded(declined.refusal.code)).inc()
            raise
        return await self._finish(stored, model.authorized(payment, intent.id))

    async def _capture(self, order_id: str) -> Payment:
        stored = await self._store.get(order_id) or await self._recover(order_id, "capture")
        if stored is None:
            raise ShopError(Kind.CONFLICT, "not-authorized", "This order has no payment.")
        if stored.value.state is PaymentState.AUTHORIZING:
            stored = await self._authorized_before(stored)
        payment = stored.value
        if payment.state is PaymentState.CAPTURED:
            return payment
        if payment.state in model.CLOSED:
            raise model.closed()
        if (
            payment.state not in {PaymentState.AUTHORIZED, PaymentState.CAPTURING}
            or payment.intent_id is None
        ):
            raise ShopError(
                Kind.CONFLICT, "not-authorized", "There is no authorization to capture."
            )
        if payment.state is PaymentState.AUTHORIZED:
            stored = await self._store.save(stored, model.capturing(payment))
        try:
            intent = await self._stripe.capture(payment.intent_id)
        except (Declined, StripeError):
            intent = await self._stripe.retrieve(payment.intent_id)
        if intent.status is IntentStatus.CAPTURED:
            return await self._finish(stored, model.captured(stored.value))
        if intent.status is IntentStatus.AUTHORIZED:
            raise StripeError
        if (await self._existing(order_id)).value.state in model.CLOSED:
            raise model.closed()  # a cancellation was quicker
        raise Declined(
            Refusal(
                kind=Kind.DECLINED,
                code="authorization-expired",
                detail="The payment could not be completed. You were not charged.",
            )
        )

    async def _cancel(self, order_id: str) -> Payment:
        stored = await self._store.get(order_id) or await self._recover(order_id, "cancel")
        if stored is None:
            stored = await self._store.add(model.fence(order_id, now_ms())) or await self._existing(
                order_id
            )
        payment = stored.value
        if payment.state in model.CANCELLED:
            return payment
        if payment.state is not PaymentState.CANCELLING:
            stored = await self._store.save(stored, model.cancelling(payment))
        if payment.refusal is not None:
            return await self._finish(stored, model.voided(stored.value))
        try:
            intent = await self._intent_of(stored)
        except Declined:
            if payment.intent_id is not None:
                raise  # Stripe does not know what it told us before: nothing to conclude from
            return await self._finish(stored, model.voided(stored.value))
        end = await self._stripe.give_back(intent)
        if end in NOT_GIVEN_BACK:
            log.error("payment.not_given_back", order_id=order_id, intent_id=intent.id, end=end)
        ended = model.given_back(stored.value, _ENDS[end], intent.id, now_ms())
        return await self._finish(stored, ended)

    async def _intent_of(self, stored: Stored[Payment]) -> Intent:
        """The payment's intent as it stands. Where its id was never stored, asking for it again
        under its key finds it.
        """
        payment = stored.value
        if payment.intent_id is not None:
            return await self._stripe.retrieve(payment.intent_id)
        try:
            intent = await self._stripe.authorize(payment)
        except StripeError:
            # Stripe repeats this answer for this key. Either the intent exists all the same, or a
            # new key is due.
            found = await self._stripe.find(payment.id)
            if found is None:
                await self._store.save(stored, model.under_next_key(payment))
                raise
            return found
        if payment.state is PaymentState.AUTHORIZING:
            return intent
        return await self._stripe.retrieve(
            intent.id
        )  # the answer may be a replay, older than the capture

    async def _recover(self, order_id: str, request: str) -> Stored[Payment] | None:
        """The payment of an order as Stripe knows it, stored again; None where Stripe has none
        either.

        :raises ShopError: UNAVAILABLE when Stripe cannot be asked. Nothing is concluded then.
        """
        intent = await self._stripe.find(order_id)
        if intent is None or intent.status not in HOLDS_MONEY:
            return None
        payment = model.recovered(
            order_id, intent.id, intent.amount_cents, intent.currency, now_ms()
        )
        stored = await self._store.add(payment)
        if stored is None:
            return await self._existing(order_id)
        self._recovered.labels(request).inc()
        log.error(
            "payment.was_lost", order_id=order_id, intent_id=intent.id, status=intent.status.value
        )
        return stored

    async def _authorized_before(self, stored: Stored[Payment]) -> Stored[Payment]:
        """A payment whose order asks for the capture, so that it knows of the authorization: the
        store is a copy from before that. As it was returned where Stripe has none either.
        """
        order_id = stored.value.id
        intent = await self._stripe.find(order_id)
        if intent is None or intent.status not in HOLDS_MONEY:
            return stored
        found = await self._store.save(stored, model.authorized(stored.value, intent.id))
        self._recovered.labels("capture").inc()
        log.error("payment.was_older", order_id=order_id, intent_id=intent.id)
        return found

    async def _existing(self, order_id: str) -> Stored[Payment]:
        stored = await self._store.get(order_id)
        if stored is None:
            raise ShopError(Kind.CONFLICT, "not-authorized", "This order has no payment.")
        return stored

    async def _finish(self, stored: Stored[Payment], payment: Payment) -> Payment:
        finished = (await self._store.save(stored, payment)).value
        self._outcomes.labels(finished.state.value).inc()
        log.info("payment.changed", order_id=finished.id, state=finished.state.value)
        return finished


async def _insisted(request: Callable[[], Awaitable[Payment]]) -> Payment:
    """Repeats a request when a duplicate of it, a cancellation or the reconciliation was quicker to
    change the payment: what they did decides its answer.
    """
    for _ in range(_ROUNDS):
        try:
            return await request()
        except RevisionConflict:
            continue
    raise ShopError(
        Kind.UNAVAILABLE,
        "payment-in-progress",
        "This payment is being processed.",
        retry_after_seconds=1,
    )
