"""Several processes of payment at one Stripe, through its SDK and over a real connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from services.common.documents import Documents, SqliteStore
from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from services.payment.clients import Stripe
from services.payment.model import PAYMENTS, Payment, PaymentState
from services.payment.reconciliation import Reconciliation
from services.payment.rpc import PaymentRpc
from services.payment.service import Payments
from services.payment.store import PaymentStore, ReconciledStore
from services.pb import payment_pb2 as pb
from tests.unit.failure import failure
from tests.unit.payment.test_sandbox import ORDER, Bank, authorize, bank, connected, request_context

__all__ = ["bank", "request_context"]  # fixtures


@pytest.fixture
async def stripes(bank: Bank) -> AsyncGenerator[tuple[Stripe, Stripe]]:
    async with (
        connected(bank.url, stripe_max_retries=1) as one,
        connected(bank.url, stripe_max_retries=1) as other,
    ):
        yield one, other


async def test_duplicates_at_once_both_end_well_within_a_second(
    store: PaymentStore, stripes: tuple[Stripe, Stripe], bank: Bank
) -> None:
    await bank.misbehave(delay_ms=150)
    processes = [Payments(store, stripe, Metrics()) for stripe in stripes]
    took_seconds: list[float] = []
    for number in range(3):
        order_id = f"ord_{number}"
        started = time.monotonic()
        one, other = await asyncio.gather(
            *(authorize(process, order_id=order_id) for process in processes)
        )
        took_seconds.append(time.monotonic() - started)
        assert one == other
        assert one.state is PaymentState.AUTHORIZED
    assert len(await bank.intents()) == 3
    # A pause of ours would be in all of them, one of the machine's is hardly.
    assert min(took_seconds) < 1.0


async def test_what_an_interrupted_process_left_is_found_in_stripes_list(
    database: SqliteStore,
    reconciled: ReconciledStore,
    stripes: tuple[Stripe, Stripe],
    bank: Bank,
) -> None:
    store = PaymentStore(await Documents.open(database, PAYMENTS, Payment))
    payments = Payments(store, stripes[0], Metrics())
    for first in range(0, 120, 20):  # more than a page of Stripe's
        await asyncio.gather(
            *(authorize(payments, order_id=f"other_{n}") for n in range(first, first + 20))
        )
    stray = await stripes[1].authorize(
        Payment(
            id="other_0",
            user_id="usr_ada",
            amount_cents=2500,
            currency="EUR",
            payment_method="pm_card_visa",
            state=PaymentState.AUTHORIZING,
            created_ms=0,
            attempt=2,
        )
    )
    await bank.misbehave(lost_reply_rate=1)
    with pytest.raises(ShopError):
        await authorize(payments)
    await bank.misbehave()
    now_seconds = 0.0
    reconciliation = Reconciliation(
        payments, store, reconciled, stripes[1], Metrics(), clock=lambda: now_seconds
    )
    await reconciliation.run()
    now_seconds += 60
    await reconciliation.run()
    adopted = await store.get(ORDER)
    assert adopted is not None
    assert adopted.value.state is PaymentState.AUTHORIZED
    status = {intent["id"]: intent["status"] for intent in await bank.intents()}
    assert status[stray.id] == "canceled"
    assert (await bank.totals())["authorized_open_cents"] == 121 * 2500


@pytest.mark.parametrize("order_id", ["", "a.b", "$a", "x" * 65])
async def test_an_order_id_has_the_form_that_all_services_know(
    store: PaymentStore, stripes: tuple[Stripe, Stripe], order_id: str
) -> None:
    rpc = PaymentRpc(Payments(store, stripes[0], Metrics()))
    for call in (
        rpc.Authorize(pb.AuthorizeRequest(order_id=order_id), None),
        rpc.Capture(pb.CaptureRequest(order_id=order_id), None),
        rpc.Cancel(pb.CancelRequest(order_id=order_id), None),
    ):
        refused = await failure(call)
        assert (refused.kind, refused.code) == (Kind.INVALID, "invalid-order-id")
