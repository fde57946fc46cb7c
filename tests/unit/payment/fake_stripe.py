"""A Stripe in memory that keeps its promises, and fails when and how the test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.common.errors import Kind, ShopError
from services.payment.clients import Intent, IntentStatus, Stripe, StripeError
from services.payment.model import Declined, Payment, Refusal


def away() -> ShopError:
    """Stripe cannot be reached; whether the request had an effect is not known."""
    return ShopError(Kind.UNAVAILABLE, "stripe-unavailable", "Away.", retry_after_seconds=2)


def refused(code: str, kind: Kind = Kind.INVALID) -> Declined:
    """Stripe understands, and says no."""
    return Declined(Refusal(kind=kind, code=code, detail="No."))


@dataclass(slots=True)
class _Intent:
    order_id: str
    status: IntentStatus
    refunded: bool = False


class FakeStripe(Stripe):
    """Intents by id, answers by idempotency key.

    :ivar before: an error to raise before the effect of the next request of an operation.
    :ivar after: an error to raise once it has taken place: its answer is lost.
    :ivar stored_500: whether the next authorization fails within Stripe, which repeats that answer
        for its key for ever; ``"effect"`` with the authorization made, ``"nothing"`` without.
    :ivar late_capture: whether a capture from elsewhere is quicker than the next void.
    :ivar gates: operations that wait, with their effect done, until their event is set.
    """

    def __init__(self) -> None:
        self.intents: dict[str, _Intent] = {}
        self.asked: list[str] = []
        self.before: dict[str, ShopError] = {}
        self.after: dict[str, ShopError] = {}
        self.stored_500: str | None = None
        self.decline: Declined | None = None
        self.late_capture = False
        self.gates: dict[str, asyncio.Event] = {}
        self._answers: dict[str, Intent | ShopError] = {}

    async def authorize(self, payment: Payment) -> Intent:
        await self._begin("authorize")
        key = payment.authorize_key
        if key not in self._answers:
            self._answers[key] = self._authorized(payment)
        await self._end("authorize")
        answer = self._answers[key]
        if isinstance(answer, ShopError):
            raise answer
        return answer

    def _authorized(self, payment: Payment) -> Intent | ShopError:
        if self.decline is not None:
            return self.decline
        failure, self.stored_500 = self.stored_500, None
        if failure == "nothing":
            return StripeError()
        intent_id = f"pi_{len(self.intents) + 1}"
        self.intents[intent_id] = _Intent(payment.id, IntentStatus.AUTHORIZED)
        return StripeError() if failure else Intent(intent_id, IntentStatus.AUTHORIZED)

    async def find(self, payment: Payment) -> Intent | None:
        await self._begin("find")
        for intent_id, intent in self.intents.items():
            if intent.order_id == payment.id:
                return Intent(intent_id, intent.status)
        return None

    async def retrieve(self, intent_id: str) -> Intent:
        await self._begin("retrieve")
        return Intent(intent_id, self.intents[intent_id].status)

    async def capture(self, intent_id: str) -> Intent:
        return await self._change("capture", intent_id, IntentStatus.CAPTURED)

    async def void(self, intent_id: str) -> Intent:
        if self.late_capture:
            self.intents[intent_id].status = IntentStatus.CAPTURED
        return await self._change("void", intent_id, IntentStatus.CANCELLED)

    async def refund(self, intent_id: str) -> None:
        await self._begin("refund")
        intent = self.intents[intent_id]
        if intent.refunded:
            raise refused("charge-already-refunded")
        assert intent.status is IntentStatus.CAPTURED
        intent.refunded = True
        await self._end("refund")

    async def _change(self, operation: str, intent_id: str, status: IntentStatus) -> Intent:
        await self._begin(operation)
        intent = self.intents[intent_id]
        if intent.status is not IntentStatus.AUTHORIZED:
            raise refused("payment-intent-unexpected-state")
        intent.status = status
        await self._end(operation)
        return Intent(intent_id, status)

    async def _begin(self, operation: str) -> None:
        self.asked.append(operation)
        await asyncio.sleep(0)
        if operation in self.before:
            raise self.before.pop(operation)

    async def _end(self, operation: str) -> None:
        if operation in self.gates:
            await self.gates[operation].wait()
        if operation in self.after:
            raise self.after.pop(operation)
