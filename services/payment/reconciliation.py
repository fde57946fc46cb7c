"""Compares the payments with Stripe's list of intents, and settles the intents that no payment
accounts for.

Money can be held without a request that will release it, for two reasons. The answer to an
authorization may be lost, and its order may not ask again for long. Or Stripe answers 500, does not
show the intent, and authorizes it later: by then the payment has another key, and another intent.

An intent that holds or took money is settled if it is its payment's own. It is voided or refunded
if its payment has another intent, or has ended. If its payment has none, the payment adopts it,
once no request for it can be running. All of this can be repeated, by several processes at once;
an outage only postpones it.

Payments in a state ending in -ing are not handled here: `order` asks for each until it has an
answer, and each request can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing

from services.common.background.stall_detector import StallDetector
from services.common.documents import RevisionConflict, Stored
from services.common.errors import ShopError
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.payment import model
from services.payment.clients import (
    HOLDS_MONEY,
    NOT_GIVEN_BACK,
    Intent,
    Sighting,
    Stripe,
    StripeError,
)
from services.payment.model import Declined, Payment, PaymentState
from services.payment.service import Payments
from services.payment.store import PaymentStore, ReconciledStore

log = get_logger(__name__)

# How far back the very first round goes. Each later one goes on from a stored mark.
_FIRST_WINDOW_SECONDS = 3600
# An intent that cannot be settled keeps the mark back for so long.
_LONGEST_WINDOW_SECONDS = 24 * 3600
# How much is looked at before the mark moves on. After an outage it is half as much: a way so long
# that an outage always cuts it would begin again each round, and grow with every order.
_LONGEST_SLICE_SECONDS = 900
# An intent appears in the list some time after the second that it is listed under: at most while
# its request runs, for which Stripe's own SDKs wait 80 s.
_OVERLAP_SECONDS = 120
# How long a request may reasonably be under way. Only politeness rests on it, no promise.
_QUIET_SECONDS = 20.0
_BATCH = 100


class Reconciliation:
    """Settles intents in rounds, from a stored mark on: everything before it is settled.

    :param clock: seconds that only ever go forward.
    """

    def __init__(
        self,
        payments: Payments,
        store: PaymentStore,
        reconciled: ReconciledStore,
        stripe: Stripe,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._payments = payments
        self._store = store
        self._reconciled = reconciled
        self._stripe = stripe
        self._strays = metrics.counter(
            "stray_intents",
            "Intents at Stripe that their payment did not know, by end.",
            ("end",),
            rare=("unknown", *NOT_GIVEN_BACK),
        )
        self._quiet = StallDetector(_QUIET_SECONDS, clock)
        self._slice_seconds = _LONGEST_SLICE_SECONDS
        # Intents since the mark that need no second look, with their creation.
        self._settled: dict[str, int] = {}

    async def run(self) -> None:
        """One round. It goes on where the last one of any process came to.

        :raises ShopError: UNAVAILABLE when Stripe or the store is away; the next round begins at
            the same mark.
        """
        newest_seconds = await self._stripe.newest_seconds()
        if newest_seconds is None:
            return
        # Only Stripe's clock is asked.
        mark_seconds = await self._reconciled.until_seconds(newest_seconds - _FIRST_WINDOW_SECONDS)
        start_seconds = max(mark_seconds, newest_seconds - _LONGEST_WINDOW_SECONDS)
        end_seconds = newest_seconds - _OVERLAP_SECONDS
        waiting: list[Sighting] = []
        is_last = False
        while not is_last:
            slice_end_seconds = start_seconds + self._slice_seconds
            is_last = slice_end_seconds >= end_seconds
            waiting += await self._settle_slice(
                start_seconds, None if is_last else slice_end_seconds
            )
            start_seconds = end_seconds if is_last else slice_end_seconds
            mark_seconds = min([start_seconds, *(one.created_seconds for one in waiting)])
            await self._reconciled.advance(mark_seconds)
        self._quiet.forget_others([sighting.intent.id for sighting in waiting])
        self._settled = {
            intent_id: created_seconds
            for intent_id, created_seconds in self._settled.items()
            if created_seconds >= mark_seconds
        }

    async def _settle_slice(self, from_seconds: int, before_seconds: int | None) -> list[Sighting]:
        try:
            waiting = await self._settle_between(from_seconds, before_seconds)
        except ShopError:
            self._slice_seconds = max(1, self._slice_seconds // 2)
            raise
        self._slice_seconds = min(2 * self._slice_seconds, _LONGEST_SLICE_SECONDS)
        return waiting

    async def _settle_between(
        self, from_seconds: int, before_seconds: int | None
    ) -> list[Sighting]:
        """Settles the intents of that time; returns those that have to wait."""
        waiting: list[Sighting] = []
        batch: list[Sighting] = []
        async with aclosing(self._stripe.created(from_seconds, before_seconds)) as sightings:
            async for sighting in sightings:
                intent = sighting.intent
                if intent.status in HOLDS_MONEY and intent.id not in self._settled:
                    batch.append(sighting)
                if len(batch) == _BATCH:
                    waiting += await self._settle(batch)
                    batch = []
        return waiting + await self._settle(batch)

    async def _settle(self, sightings: list[Sighting]) -> list[Sighting]:
        order_ids = {sighting.order_id for sighting in sightings if sighting.order_id is not None}
        payments = await self._store.get_many(order_ids)
        waiting: list[Sighting] = []
        for sighting in sightings:
            payment = None if sighting.order_id is None else payments.get(sighting.order_id)
            if await self._settle_one(sighting, payment):
                self._settled[sighting.intent.id] = sighting.created_seconds
            else:
                waiting.append(sighting)
        return waiting

    async def _settle_one(self, sighting: Sighting, stored: Stored[Payment] | None) -> bool:
        intent = sighting.intent
        if stored is None:
            self._report_unknown(sighting)
            return True
        payment = stored.value
        if payment.intent_id == intent.id:
            return True
        may_be_under_way = payment.intent_id is None and payment.state in model.INTENT_OPEN
        if may_be_under_way and not self._quiet.has_stalled(intent.id, stored.revision):
            return False
        if payment.state is PaymentState.AUTHORIZING:
            return await self._adopt(stored, intent)
        return await self._give_back(payment, intent)

    def _report_unknown(self, sighting: Sighting) -> None:
        """Every payment is stored before its intent is asked for. So an intent without one is
        somebody else's; or it is ours, and the store is a copy from before it. That cannot be told
        apart here where two shops share a Stripe account, so the intent is left alone: the next
        request of its order takes it on, if it is ours.
        """
        intent_id, order_id = sighting.intent.id, sighting.order_id
        if order_id is None or not order_id.startswith("ord_"):
            log.info("intent.foreign", intent_id=intent_id, order_id=order_id)
            return
        self._strays.labels("unknown").inc()
        log.error("intent.unknown", intent_id=intent_id, order_id=order_id)

    async def _adopt(self, stored: Stored[Payment], intent: Intent) -> bool:
        try:
            await self._payments.adopt(stored, intent.id)
        except RevisionConflict:
            return False
        self._strays.labels("adopted").inc()
        log.warning("intent.adopted", order_id=stored.value.id, intent_id=intent.id)
        return True

    async def _give_back(self, payment: Payment, intent: Intent) -> bool:
        try:
            end = await self._stripe.give_back(intent)
        except (Declined, StripeError):  # of this intent; others must not wait for it
            log.exception("intent.stays", order_id=payment.id, intent_id=intent.id)
            return False
        self._strays.labels(end.value).inc()
        report = log.error if end in NOT_GIVEN_BACK else log.warning
        report(
            "intent.stray", order_id=payment.id, state=payment.state, intent_id=intent.id, end=end
        )
        return True
