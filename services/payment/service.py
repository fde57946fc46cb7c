"""What the payment service does: authorize, capture, cancel. Each can be repeated, in any process,
and changes nothing more.
"""

from __future__ import annotations

from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import Kind, ShopError
from services.common.logs import get_logger
from services.common.metrics import Metrics
from services.payment import model
from services.payment.clients import Intent, IntentStatus, Stripe, StripeError
from services.payment.model import Declined, Payment, Refusal, State
from services.payment.store import PaymentStore

log = get_logger(__name__)

# How often a cancellation looks again when the intent changes under its hands (a late capture).
_CANCEL_ROUNDS = 3


class Payments:
    """The payments of all orders."""

    def __init__(self, store: PaymentStore, stripe: Stripe, metrics: Metrics) -> None:
        self._store = store
        self._stripe = stripe
        self._outcomes = metrics.counter("payments", "Payments that reached a state.", ("state",))

    async def authorize(
        self, *, order_id: str, user_id: str, amount_cents: int, currency: str, payment_method: str
    ) -> Payment:
        """Sets the order's total aside on the customer's card.

        :raises ShopError: DECLINED or INVALID when Stripe refuses, each time with the first answer;
            CONFLICT when the payment was cancelled; UNAVAILABLE when Stripe is away: then try
            again.
        """
        wanted = Payment(
            id=order_id,
            user_id=user_id,
            amount_cents=amount_cents,
            currency=currency,
            payment_method=payment_method,
            state=State.AUTHORIZING,
            created_ms=now_ms(),
        )
        stored = await self._store.add(wanted) or await self._existing(order_id)
        payment = stored.value
        if payment.state in model.CLOSED:
            raise model.closed()
        if (payment.amount_cents, payment.currency, payment.payment_method) != (
            amount_cents,
            currency,
            payment_method,
        ):
            raise ShopError(
                Kind.INVALID, "payment-differs", "This order has another payment already."
            )
        if payment.refusal is not None:
            raise Declined(payment.refusal)
        if payment.state is not State.AUTHORIZING:
            return payment
        try:
            intent = await self._intent_of(stored)
        except Declined as declined:
            await self._finish(stored, {"state": State.DECLINED, "refusal": declined.refusal})
            raise
        return await self._finish(stored, {"state": State.AUTHORIZED, "intent_id": intent.id})

    async def capture(self, order_id: str) -> Payment:
        """Charges what was authorized.

        :raises ShopError: DECLINED when the authorization is no longer valid; CONFLICT when there
            is none.
        """
        stored = await self._existing(order_id)
        payment = stored.value
        if payment.state is State.CAPTURED:
            return payment
        if payment.state in model.CLOSED:
            raise model.closed()
        if payment.state not in {State.AUTHORIZED, State.CAPTURING} or payment.intent_id is None:
            raise ShopError(
                Kind.CONFLICT, "not-authorized", "There is no authorization to capture."
            )
        if payment.state is State.AUTHORIZED:
            stored = await self._save(stored, {"state": State.CAPTURING})
        try:
            intent = await self._stripe.capture(payment.intent_id)
        except (Declined, StripeError):
            intent = await self._stripe.retrieve(payment.intent_id)
        if intent.status is IntentStatus.CAPTURED:
            return await self._finish(stored, {"state": State.CAPTURED})
        if intent.status is IntentStatus.AUTHORIZED:
            raise StripeError
        raise Declined(
            Refusal(
                kind=Kind.DECLINED,
                code="authorization-expired",
                detail="The payment could not be completed. You were not charged.",
            )
        )

    async def cancel(self, order_id: str) -> Payment:
        """Voids or refunds, whichever the payment needs, and closes it for whatever comes late."""
        stored = await self._store.get(order_id)
        if stored is None:
            stored = await self._store.add(model.fence(order_id, now_ms())) or await self._existing(
                order_id
            )
        payment = stored.value
        if payment.state in {State.VOIDED, State.REFUNDED}:
            return payment
        if payment.state is not State.CANCELLING:
            stored = await self._save(stored, {"state": State.CANCELLING})
        if payment.refusal is not None:
            return await self._finish(stored, {"state": State.VOIDED})
        try:
            intent = await self._intent_of(stored)
        except Declined:
            if payment.intent_id is not None:
                raise  # Stripe does not know what it told us before: nothing to conclude from
            return await self._finish(stored, {"state": State.VOIDED})
        return await self._undo(stored, intent)

    async def get(self, user_id: str, order_id: str) -> Payment:
        """The payment of one of the user's orders."""
        stored = await self._store.get(order_id)
        if stored is None or stored.value.user_id != user_id:
            raise ShopError(Kind.NOT_FOUND, "unknown-payment", "There is no such payment.")
        return stored.value

    async def _undo(self, stored: Stored[Payment], intent: Intent) -> Payment:
        for _ in range(_CANCEL_ROUNDS):
            if intent.status is IntentStatus.CANCELLED:
                return await self._finish(stored, {"state": State.VOIDED, "intent_id": intent.id})
            try:
                if intent.status is IntentStatus.CAPTURED:
                    await self._stripe.refund(intent.id)
                    return await self._finish(
                        stored, {"state": State.REFUNDED, "intent_id": intent.id}
                    )
                intent = await self._stripe.void(intent.id)
            except Declined as refused:
                if refused.code == "charge-already-refunded":
                    return await self._finish(
                        stored, {"state": State.REFUNDED, "intent_id": intent.id}
                    )
                intent = await self._stripe.retrieve(intent.id)
        raise StripeError

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
            found = await self._stripe.find(payment)
            if found is None:
                await self._save(stored, {"attempt": payment.attempt + 1})
                raise
            return found
        if payment.state is State.AUTHORIZING:
            return intent
        return await self._stripe.retrieve(
            intent.id
        )  # the answer may be a replay, older than the capture

    async def _existing(self, order_id: str) -> Stored[Payment]:
        stored = await self._store.get(order_id)
        if stored is None:
            raise ShopError(Kind.CONFLICT, "not-authorized", "This order has no payment.")
        return stored

    async def _save(self, stored: Stored[Payment], changes: dict[str, object]) -> Stored[Payment]:
        try:
            return await self._store.save(stored, stored.value.model_copy(update=changes))
        except RevisionConflict as error:
            # A duplicate of this request, or a cancellation, was quicker. Whoever asked asks again
            # and sees what it did.
            raise ShopError(
                Kind.UNAVAILABLE,
                "payment-in-progress",
                "This payment is being processed.",
                retry_after_seconds=1,
            ) from error

    async def _finish(self, stored: Stored[Payment], changes: dict[str, object]) -> Payment:
        finished = (await self._save(stored, changes)).value
        self._outcomes.labels(finished.state.value).inc()
        log.info("payment.changed", order_id=finished.id, state=finished.state.value)
        return finished
