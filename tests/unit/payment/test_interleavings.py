"""Requests for one payment in every order and at once: duplicates change nothing, and a
cancellation is the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from services.common.documents import Documents
from services.common.observing.metrics import Metrics
from services.payment.clients import IntentStatus
from services.payment.model import PAYMENTS, RECONCILED, Payment, PaymentState, Reconciled
from services.payment.reconciliation import Reconciliation
from services.payment.service import Payments
from services.payment.store import PaymentStore, ReconciledStore
from tests.unit.interleaving import (
    Actor,
    SteppedStore,
    cut_everywhere,
    interleave_by_chance,
    interleave_jobs,
    names_of,
    run,
    undo_in_every_order,
)
from tests.unit.payment.examples import ORDER, a_command
from tests.unit.payment.fake_stripe import FakeStripe

Job = Callable[["SteppedPayments"], Coroutine[Any, Any, object]]


class SteppedPayments:
    """One payment, its store and Stripe; every process is as good as another."""

    def __init__(self) -> None:
        self.documents = SteppedStore()
        self.stripe = FakeStripe()
        self.now_seconds = 0.0
        mark = Reconciled(id=Reconciled.INTENTS, until_seconds=self.stripe.now_seconds)
        self.documents.fill(RECONCILED, mark)
        store = PaymentStore(Documents(self.documents, PAYMENTS, Payment))
        self.payments = Payments(store, self.stripe, Metrics())
        self.reconciliation = Reconciliation(
            self.payments,
            store,
            ReconciledStore(Documents(self.documents, RECONCILED, Reconciled)),
            self.stripe,
            Metrics(),
            clock=lambda: self.now_seconds,
        )

    @property
    def state(self) -> PaymentState:
        """Of the payment."""
        (body,) = self.documents.bodies(PAYMENTS)
        return Payment.model_validate(body).state

    @property
    def intents_with_money(self) -> int:
        """How many intents hold money, or took it for good."""
        return sum(
            intent.status in {IntentStatus.AUTHORIZED, IntentStatus.CAPTURED}
            and not intent.refunded
            for intent in self.stripe.intents.values()
        )

    def settle(self) -> None:
        """Lets time pass and reconciles, as happens when everything is quiet."""
        run(reconcile(self))


async def authorize(system: SteppedPayments) -> None:
    """Asks for the payment."""
    await system.payments.authorize(a_command())


async def capture(system: SteppedPayments) -> None:
    """Charges it."""
    await system.payments.capture(ORDER)


async def cancel(system: SteppedPayments) -> None:
    """Undoes it."""
    await system.payments.cancel(ORDER)


async def reconcile(system: SteppedPayments) -> None:
    """Two rounds, between which all quiet times pass."""
    await system.reconciliation.run()
    system.now_seconds += 60
    await system.reconciliation.run()


async def pay(system: SteppedPayments) -> None:
    """Asks for the payment and charges it."""
    await authorize(system)
    await capture(system)


def check(system: SteppedPayments, jobs: tuple[Job, ...]) -> None:
    """What holds once all jobs have ended."""
    if cancel in jobs:
        assert system.state in {PaymentState.VOIDED, PaymentState.REFUNDED}
        assert system.intents_with_money == 0
        return
    assert system.intents_with_money == 1
    assert system.state in {PaymentState.AUTHORIZED, PaymentState.CAPTURED}


@pytest.mark.parametrize(
    ("before", "jobs"),
    [
        ((), (authorize, authorize)),
        ((), (authorize, cancel)),
        ((), (cancel, cancel)),
        ((), (pay, pay)),
        ((), (pay, cancel)),
        ((), (pay, reconcile)),
        ((authorize,), (capture, capture)),
        ((authorize,), (capture, cancel)),
        ((authorize,), (cancel, cancel)),
        ((authorize,), (cancel, reconcile)),
        ((pay,), (authorize, cancel)),
        ((pay,), (cancel, cancel)),
        ((pay,), (cancel, reconcile)),
    ],
    ids=names_of,
)
def test_two_requests_at_once(before: tuple[Job, ...], jobs: tuple[Job, Job]) -> None:
    interleave_jobs(SteppedPayments, before, jobs, lambda system: check(system, jobs))


@pytest.mark.parametrize("request_", [authorize, pay])
def test_requests_and_their_undo_in_every_order(request_: Job) -> None:
    undo_in_every_order(
        SteppedPayments,
        request_,
        cancel,
        lambda system: check(system, (request_, cancel)),
        closed="payment-closed",
    )


@pytest.mark.parametrize("seed", range(100))
def test_requests_their_duplicates_and_their_undo_at_once(seed: int) -> None:
    system = SteppedPayments()
    jobs = (pay, pay, cancel, cancel, reconcile)
    codes = interleave_by_chance((job(system) for job in jobs), seed)
    assert codes <= {"payment-closed", "payment-in-progress", "not-authorized"}
    run(cancel(system))  # order insists
    check(system, jobs)


@pytest.mark.parametrize("interruption", [Actor.die, Actor.lose_the_store])
@pytest.mark.parametrize("job", [authorize, pay])
def test_an_order_that_never_asks_again_has_its_money_accounted_for(
    job: Job, interruption: Callable[[Actor], None]
) -> None:
    """Whatever is held at Stripe when a process dies, its payment knows of after reconciling."""
    for system, actor in cut_everywhere(SteppedPayments, (), job):
        interruption(actor)
        system.settle()
        if system.stripe.intents:
            (body,) = system.documents.bodies(PAYMENTS)
            assert body["intent_id"] == "pi_1"
            assert system.state is not PaymentState.AUTHORIZING
