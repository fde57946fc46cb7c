"""Payments through Stripe's own SDK, against the sandbox and its ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from services.common import context
from services.common.context import RequestContext
from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from services.payment.aftermath import Aftermath
from services.payment.clients import Stripe, StripeError
from services.payment.model import Payment, PaymentState
from services.payment.service import Payments
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore, ReconciledStore
from stand_ins.stripe import commands, model
from stand_ins.stripe.model import PaymentIntent, Refund
from stand_ins.stripe.params import Params
from stand_ins.stripe.server import running
from stand_ins.stripe.settings import SandboxSettings
from stand_ins.stripe.store import Books
from tests.testkit.ports import free_port
from tests.unit.common.kit import ManualClock, call_tools
from tests.unit.failure import failure
from tests.unit.payment.examples import ORDER, a_command


class Bank:
    """The sandbox, seen from the test."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def misbehave(self, **faults: float) -> None:
        """Sets what goes wrong from now on; nothing, without arguments."""
        async with self._http.post(f"{self.url}/sandbox/faults", json=faults) as reply:
            assert reply.status == 200

    async def totals(self) -> dict[str, int]:
        """What is set aside, charged and paid back."""
        return (await self._ledger())["totals"]

    async def intents(self) -> list[dict[str, Any]]:
        """All payment intents."""
        return (await self._ledger())["payment_intents"]

    async def _ledger(self) -> dict[str, Any]:
        async with self._http.get(f"{self.url}/sandbox/ledger") as reply:
            assert reply.status == 200
            return await reply.json()


@pytest.fixture(autouse=True)
def request_context() -> Generator[RequestContext]:
    with context.background(30.0) as current:
        yield current


@pytest.fixture
async def bank() -> AsyncGenerator[Bank]:
    async with running(SandboxSettings(port=0)) as url, aiohttp.ClientSession() as http:
        yield Bank(url, http)


@asynccontextmanager
async def connected(
    url: str, clock: Callable[[], float] = time.monotonic, **settings: Any
) -> AsyncGenerator[Stripe]:
    values: dict[str, Any] = {
        "stripe_api_key": SecretStr("sk_test_unit"),
        "stripe_api_base": url,
        "stripe_max_retries": 0,
    }
    stripe = Stripe(PaymentSettings(**{**values, **settings}), call_tools(clock))
    try:
        yield stripe
    finally:
        await stripe.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def stripe(bank: Bank, clock: ManualClock) -> AsyncGenerator[Stripe]:
    async with connected(bank.url, clock) as stripe:
        yield stripe


@pytest.fixture
def looked(reconciled: ReconciledStore) -> ReconciledStore:
    """How far the looks for disputes have come; no test here reconciles as well."""
    return reconciled


@pytest.fixture
def payments(store: PaymentStore, stripe: Stripe) -> Payments:
    return Payments(store, stripe, Metrics())


async def authorize(
    payments: Payments, payment_method: str = "pm_card_visa", order_id: str = ORDER
) -> Payment:
    return await payments.authorize(a_command(order_id, payment_method=payment_method))


@pytest.mark.parametrize(
    "payment_method", ["pm_card_visa", "pm_card_mastercard", "pm_card_amex", "pm_card_visa_debit"]
)
async def test_a_payment_is_set_aside_charged_and_paid_back(
    payments: Payments, bank: Bank, payment_method: str
) -> None:
    await authorize(payments, payment_method)
    (intent,) = await bank.intents()
    assert (intent["amount"], intent["currency"]) == (2500, "eur")
    assert intent["metadata"] == {"order_id": ORDER}
    assert (await bank.totals())["authorized_open_cents"] == 2500

    assert (await payments.capture(ORDER)).state is PaymentState.CAPTURED
    totals = await bank.totals()
    assert (totals["authorized_open_cents"], totals["captured_cents"]) == (0, 2500)

    assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED
    assert (await bank.totals())["refunded_cents"] == 2500


async def test_an_authorization_is_given_up(payments: Payments, bank: Bank) -> None:
    await authorize(payments)
    assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
    totals = await bank.totals()
    assert (totals["authorized_open_cents"], totals["captured_cents"]) == (0, 0)


@pytest.mark.parametrize(
    ("payment_method", "code", "advice"),
    [
        ("pm_card_visa_chargeDeclined", "card-declined", "another card"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient-funds", "insufficient"),
        ("pm_card_visa_chargeDeclinedLostCard", "card-declined", "ask your bank"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card-declined", "ask your bank"),
        ("pm_card_visa_chargeDeclinedFraudulent", "card-declined", "ask your bank"),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card-declined", "ask your bank"),
        ("pm_card_chargeDeclinedExpiredCard", "expired-card", "expired"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect-cvc", "security code"),
        ("pm_card_chargeDeclinedProcessingError", "processing-error", "in a moment"),
        ("pm_card_authenticationRequired", "authentication-required", "confirm this payment"),
    ],
)
async def test_a_declined_card_is_explained_to_its_owner(
    payments: Payments, bank: Bank, payment_method: str, code: str, advice: str
) -> None:
    for _ in range(2):
        error = await failure(authorize(payments, payment_method))
        assert (error.kind, error.code) == (Kind.DECLINED, code)
        assert advice in error.detail
    assert len(await bank.intents()) == 1
    assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
    totals = await bank.totals()
    assert (totals["authorized_open_cents"], totals["captured_cents"]) == (0, 0)


async def test_thieves_are_not_told_that_the_bank_knows(payments: Payments) -> None:
    """Stripe: "do not report more detailed information" for lost, stolen and fraudulent cards."""
    details: set[str] = set()
    for number, reason in enumerate(("", "LostCard", "StolenCard", "Fraudulent")):
        method = f"pm_card_visa_chargeDeclined{reason}"
        details.add((await failure(authorize(payments, method, f"ord_{number}"))).detail)
    assert len(details) == 1


async def test_an_unknown_payment_method_is_an_error_of_the_customers(payments: Payments) -> None:
    error = await failure(authorize(payments, "pm_card_nonsense"))
    assert (error.kind, error.code) == (Kind.INVALID, "resource-missing")


async def test_many_requests_at_once_charge_once(payments: Payments, bank: Bank) -> None:
    results = await asyncio.gather(
        *(authorize(payments) for _ in range(10)), return_exceptions=True
    )
    for result in results:
        assert isinstance(result, Payment) or (
            isinstance(result, ShopError) and result.kind is Kind.UNAVAILABLE
        )
    assert (await authorize(payments)).state is PaymentState.AUTHORIZED
    assert len(await bank.intents()) == 1


async def test_a_lost_answer_is_found_by_the_next_try(payments: Payments, bank: Bank) -> None:
    await bank.misbehave(lost_reply_rate=1)
    error = await failure(authorize(payments))
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "stripe-unavailable")
    await bank.misbehave()
    assert (await authorize(payments)).state is PaymentState.AUTHORIZED
    assert len(await bank.intents()) == 1


async def test_a_lost_answer_is_found_and_voided_by_a_cancellation(
    payments: Payments, bank: Bank
) -> None:
    await bank.misbehave(lost_reply_rate=1)
    await failure(authorize(payments))
    assert (await bank.totals())["authorized_open_cents"] == 2500
    await bank.misbehave()
    assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
    assert (await bank.totals())["authorized_open_cents"] == 0


async def test_a_lost_capture_is_found(payments: Payments, bank: Bank) -> None:
    await authorize(payments)
    await bank.misbehave(lost_reply_rate=1)
    assert (await failure(payments.capture(ORDER))).kind is Kind.UNAVAILABLE
    await bank.misbehave()
    assert (await payments.capture(ORDER)).state is PaymentState.CAPTURED
    assert (await bank.totals())["captured_cents"] == 2500


async def test_a_lost_refund_is_found(payments: Payments, bank: Bank) -> None:
    await authorize(payments)
    await payments.capture(ORDER)
    await bank.misbehave(lost_reply_rate=1)
    assert (await failure(payments.cancel(ORDER))).kind is Kind.UNAVAILABLE
    await bank.misbehave()
    assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED
    assert (await bank.totals())["refunded_cents"] == 2500


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("succeeded", PaymentState.REFUNDED),
        ("pending", PaymentState.REFUNDED),
        ("failed", PaymentState.REFUND_FAILED),
        ("canceled", PaymentState.REFUND_FAILED),
    ],
)
async def test_a_refund_counts_by_its_status(
    payments: Payments, monkeypatch: pytest.MonkeyPatch, status: str, end: PaymentState
) -> None:
    as_sandbox = Refund.json

    def with_status(refund: Refund) -> dict[str, Any]:
        return {**as_sandbox(refund), "status": status}

    monkeypatch.setattr(Refund, "json", with_status)
    await authorize(payments)
    await payments.capture(ORDER)
    assert (await payments.cancel(ORDER)).state is end


@pytest.mark.parametrize(
    ("card", "end"),
    [
        ("pm_card_visa", PaymentState.REFUNDED),
        ("pm_card_pendingRefund", PaymentState.REFUNDED),
        ("pm_card_refundFail", PaymentState.REFUND_FAILED),
    ],
)
async def test_what_becomes_of_a_refund_is_found_later(
    payments: Payments,
    stripe: Stripe,
    store: PaymentStore,
    looked: ReconciledStore,
    monkeypatch: pytest.MonkeyPatch,
    card: str,
    end: PaymentState,
) -> None:
    monkeypatch.setattr(model, "REFUND_CHANGES_SECONDS", 0)
    await authorize(payments, card)
    await payments.capture(ORDER)
    assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED
    await Aftermath(store, looked, stripe, Metrics()).run()
    assert (await payments.cancel(ORDER)).state is end


async def test_a_disputed_charge_is_found_and_not_paid_back_as_well(
    payments: Payments, stripe: Stripe, store: PaymentStore, looked: ReconciledStore, bank: Bank
) -> None:
    for order_id, card in ((ORDER, "pm_card_createDispute"), ("ord_2", "pm_card_visa")):
        await authorize(payments, card, order_id)
        await payments.capture(order_id)
    await Aftermath(store, looked, stripe, Metrics()).run()
    found = await store.get_many([ORDER, "ord_2"])
    noted = {order_id: stored.value.is_disputed for order_id, stored in found.items()}
    assert noted == {ORDER: True, "ord_2": False}
    assert (await payments.cancel(ORDER)).state is PaymentState.DISPUTED
    assert (await bank.totals())["refunded_cents"] == 0


async def test_all_pages_of_disputes_are_read(
    payments: Payments, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await authorize(payments, "pm_card_createDispute", f"ord_{number}")
        await payments.capture(f"ord_{number}")
    asked = commands._limit  # pyright: ignore[reportPrivateUsage]

    def one_at_a_time(params: Params) -> int:
        asked(params)
        return 1

    monkeypatch.setattr(commands, "_limit", one_at_a_time)
    found = [dispute.intent_id async for dispute in stripe.disputed(1)]
    assert len(set(found)) == 3
    assert await stripe.order_of(found[0]) == "ord_2"


async def test_an_authorization_behind_a_500_is_found(payments: Payments, bank: Bank) -> None:
    """Stripe stores its 500 for the key and repeats it, so the intent must be looked for."""
    await bank.misbehave(stored_failure_rate=1)
    payment = await authorize(payments)
    assert (payment.state, payment.attempt) == (PaymentState.AUTHORIZED, 1)
    (intent,) = await bank.intents()
    assert intent["id"] == payment.intent_id


async def test_an_authorization_is_found_among_many(payments: Payments, stripe: Stripe) -> None:
    wanted = await authorize(payments)
    for first in range(0, 120, 20):
        await asyncio.gather(
            *(authorize(payments, order_id=f"other_{n}") for n in range(first, first + 20))
        )
    found = await stripe.find(wanted.id)
    assert found is not None
    assert found.id == wanted.intent_id
    assert await stripe.find("ord_unknown") is None


async def test_an_authorization_is_found_before_the_search_knows_it(
    payments: Payments, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await authorize(payments)
    await authorize(payments, order_id="other")

    def finds_nothing(*_: object) -> list[PaymentIntent]:
        return []

    monkeypatch.setattr(Books, "intents_with", finds_nothing)
    found = await stripe.find(wanted.id)
    assert found is not None
    assert found.id == wanted.intent_id


async def test_failures_before_the_effect_end_with_one_charge(
    payments: Payments, bank: Bank
) -> None:
    await bank.misbehave(failure_rate=1)
    for _ in range(3):
        assert (await failure(authorize(payments))).kind is Kind.UNAVAILABLE
    await bank.misbehave()
    assert (await authorize(payments)).state is PaymentState.AUTHORIZED
    assert (await bank.totals())["authorized_open_cents"] == 2500


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_goes_wrong_the_books_are_right(
    payments: Payments, bank: Bank, clock: ManualClock, seed: int
) -> None:
    """Every request is likely to fail somehow; whoever tries on gets there, and pays once."""
    await bank.misbehave(
        failure_rate=0.2,
        stored_failure_rate=0.2,
        lost_reply_rate=0.2,
        rate_limit_rate=0.1,
        seed=seed,
    )

    async def insist(call: Callable[[], Awaitable[Payment]]) -> Payment:
        for _ in range(100):
            (result,) = await asyncio.gather(call(), return_exceptions=True)
            if isinstance(result, Payment):
                return result
            assert isinstance(result, ShopError)
            assert result.kind is Kind.UNAVAILABLE, result.code
            clock.advance(result.retry_after_seconds or 0.0)
        raise AssertionError("it does not get there")

    await insist(lambda: authorize(payments))
    assert (await insist(lambda: payments.capture(ORDER))).state is PaymentState.CAPTURED
    assert (await bank.totals())["captured_cents"] == 2500
    assert (await insist(lambda: payments.cancel(ORDER))).state is PaymentState.REFUNDED
    assert (await bank.totals())["refunded_cents"] == 2500


async def test_too_many_requests_are_an_outage(payments: Payments, bank: Bank) -> None:
    await bank.misbehave(rate_limit_rate=1)
    error = await failure(authorize(payments))
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "stripe-unavailable")


async def test_a_slow_stripe_is_an_outage(store: PaymentStore, bank: Bank) -> None:
    await bank.misbehave(delay_ms=300)
    async with connected(bank.url, stripe_timeout_seconds=0.05) as stripe:
        payments = Payments(store, stripe, Metrics())
        assert (await failure(authorize(payments))).kind is Kind.UNAVAILABLE


async def test_no_stripe_is_an_outage(store: PaymentStore) -> None:
    async with connected(f"http://127.0.0.1:{free_port()}") as stripe:
        payments = Payments(store, stripe, Metrics())
        assert (await failure(authorize(payments))).kind is Kind.UNAVAILABLE


async def test_a_wrong_key_is_our_fault_not_the_customers(store: PaymentStore, bank: Bank) -> None:
    async with connected(bank.url, stripe_api_key=SecretStr("rk_test_nonsense")) as stripe:
        error = await failure(authorize(Payments(store, stripe, Metrics())))
    assert error.kind is Kind.UNAVAILABLE
    assert "nonsense" not in error.detail


async def test_an_outage_of_stripe_is_passed_on_at_once(
    store: PaymentStore, clock: ManualClock, request_context: RequestContext
) -> None:
    async with connected(f"http://127.0.0.1:{free_port()}", clock) as stripe:
        payments = Payments(store, stripe, Metrics())
        errors = [await failure(authorize(payments)) for _ in range(6)]
    assert {(error.kind, error.code) for error in errors} == {
        (Kind.UNAVAILABLE, "stripe-unavailable")
    }
    statuses = [call.status for call in request_context.log.calls]
    assert statuses == [*["unavailable"] * 5, "refused"]


async def test_a_500_for_one_payment_stops_no_other(
    payments: Payments, bank: Bank, stripe: Stripe
) -> None:
    await bank.misbehave(stored_failure_rate=1)
    for _ in range(10):
        assert isinstance(await failure(stripe.capture("pi_unknown")), StripeError)
    await bank.misbehave()
    assert (await authorize(payments)).state is PaymentState.AUTHORIZED


async def test_calls_are_in_the_record(payments: Payments, request_context: RequestContext) -> None:
    await authorize(payments)
    (call,) = request_context.log.calls
    assert (call.callee, call.operation, call.status) == (
        "stripe",
        "POST /v1/payment_intents",
        "200",
    )
