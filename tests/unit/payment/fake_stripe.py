"""A Stripe in memory that keeps its promises, and fails when and how the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.common.errors import Kind, ShopError
from services.payment.clients import (
    Disputed,
    GivenBack,
    Intent,
    IntentStatus,
    Sighting,
    Stripe,
    StripeError,
)
from services.payment.model import Declined, Payment, Refusal

AMOUNT_CENTS = 2500


def shown(intent_id: str, status: IntentStatus) -> Intent:
    """An intent as Stripe shows it: all are of one amount."""
    return Intent(intent_id, status, AMOUNT_CENTS, "EUR")


def away() -> ShopError:
    """Stripe cannot be reached; whether the request had an effect is not known."""
    return ShopError(Kind.UNAVAILABLE, "stripe-unavailable", "Away.", retry_after_seconds=2)


def refused(code: str, kind: Kind = Kind.INVALID) -> Declined:
    """Stripe understands, and says no."""
    return Declined(Refusal(kind=kind, code=code, detail="No."))


@dataclass(slots=True)
class _Intent:
    order_id: str | None
    status: IntentStatus
    created_seconds: int
    refunded: bool = False


class FakeStripe(Stripe):
    """Intents by id, answers by idempotency key.

    :ivar before: an error to raise before the effect of the next request of an operation.
    :ivar after: an error to raise once it has taken place: its answer is lost.
    :ivar stored_500: whether the next authorization fails within Stripe, which repeats that answer
        for its key for ever; ``"effect"`` with the authorization made, ``"nothing"`` without, and
        ``"late"`` with one that is made only when `land` is called.
    :ivar now_seconds: when intents are created, by Stripe's clock.
    :ivar late_capture: whether a capture from elsewhere is quicker than the next void.
    :ivar refunds_fail: whether the cards take no refund.
    :ivar list_breaks_after: how many intents a list shows before its connection breaks.
    :ivar gates: operations that wait, with their effect done, until their event is set.
    """

    def __init__(self) -> None:
        self.intents: dict[str, _Intent] = {}
        self.disputes: list[Disputed] = []
        self.asked: list[str] = []
        self.listed: list[str] = []
        self.before: dict[str, ShopError] = {}
        self.after: dict[str, ShopError] = {}
        self.stored_500: str | None = None
        self.decline: Declined | None = None
        self.late_capture = False
        self.refunds_fail = False
        self.list_breaks_after: int | None = None
        self.gates: dict[str, asyncio.Event] = {}
        self.now_seconds = 1_800_000_000
        self._late: list[str] = []
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
        if failure == "late":
            self._late.append(payment.id)
            return StripeError()
        intent_id = self.put(payment.id)
        return StripeError() if failure else shown(intent_id, IntentStatus.AUTHORIZED)

    def put(self, order_id: str | None, status: IntentStatus = IntentStatus.AUTHORIZED) -> str:
        """Creates an intent; returns its id."""
        intent_id = f"pi_{len(self.intents) + 1}"
        self.intents[intent_id] = _Intent(order_id, status, self.now_seconds)
        return intent_id

    def land(self) -> None:
        """Lets the late authorizations happen."""
        while self._late:
            self.put(self._late.pop())

    async def newest_seconds(self) -> int | None:
        await self._begin("newest")
        return max((intent.created_seconds for intent in self.intents.values()), default=None)

    async def created(
        self, from_seconds: int, before_seconds: int | None = None
    ) -> AsyncGenerator[Sighting]:
        await self._begin("list")
        # Stripe's list is what it was when it was asked for.
        found = [
            (intent_id, intent)
            for intent_id, intent in reversed(list(self.intents.items()))
            if from_seconds <= intent.created_seconds < (before_seconds or 2**40)
        ]
        for position, (intent_id, intent) in enumerate(found):
            if position == self.list_breaks_after:
                raise away()
            self.listed.append(intent_id)
            sighting = shown(intent_id, intent.status)
            yield Sighting(sighting, intent.order_id, intent.created_seconds)

    async def find(self, order_id: str) -> Intent | None:
        await self._begin("find")
        for intent_id, intent in self.intents.items():
            if intent.order_id == order_id:
                return shown(intent_id, intent.status)
        return None

    async def retrieve(self, intent_id: str) -> Intent:
        await self._begin("retrieve")
        return shown(intent_id, self.intents[intent_id].status)

    async def capture(self, intent_id: str) -> Intent:
        return await self._change("capture", intent_id, IntentStatus.CAPTURED)

    async def void(self, intent_id: str) -> Intent:
        if self.late_capture:
            self.intents[intent_id].status = IntentStatus.CAPTURED
        return await self._change("void", intent_id, IntentStatus.CANCELLED)

    async def refund(self, intent_id: str) -> GivenBack:
        try:
            return await self._refunded(intent_id)
        except Declined as refusal:
            return await self._end_of_refund(intent_id, refusal)

    async def refunded_cents(self, intent_id: str) -> int:
        await self._begin("refunded")
        return AMOUNT_CENTS if self.intents[intent_id].refunded else 0

    async def disputed(self, from_seconds: int) -> AsyncGenerator[Disputed]:
        await self._begin("disputes")
        for dispute in reversed(self.disputes):
            if dispute.created_seconds >= from_seconds:
                yield dispute

    async def order_of(self, intent_id: str) -> str | None:
        await self._begin("order_of")
        return self.intents[intent_id].order_id

    def dispute(self, intent_id: str) -> None:
        """The card's owner wants a charge back."""
        dispute_id = f"du_{len(self.disputes) + 1}"
        self.disputes.append(Disputed(dispute_id, intent_id, self.now_seconds))

    async def _refunded(self, intent_id: str) -> GivenBack:
        await self._begin("refund")
        intent = self.intents[intent_id]
        if intent.refunded:
            raise refused("charge-already-refunded")
        assert intent.status is IntentStatus.CAPTURED
        if self.refunds_fail:
            return GivenBack.FAILED
        intent.refunded = True
        await self._end("refund")
        return GivenBack.REFUNDED

    async def _change(self, operation: str, intent_id: str, status: IntentStatus) -> Intent:
        await self._begin(operation)
        intent = self.intents[intent_id]
        if intent.status is not IntentStatus.AUTHORIZED:
            raise refused("payment-intent-unexpected-state")
        intent.status = status
        await self._end(operation)
        return shown(intent_id, status)

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
