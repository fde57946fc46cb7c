"""What is around `order`, as fakes that do what the test says and keep what they were asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from services.common import context
from services.common.call_record import CallLog
from services.common.documents import Documents, Event, SqliteStore, Stored
from services.common.errors import Kind, ShopError
from services.common.notifying import Notifications, Recipient
from services.common.observing.metrics import Metrics
from services.order.checkout import Callees
from services.order.clients import (
    Buyers,
    Inventory,
    PaymentGateway,
    PricedProduct,
    Products,
    Shipping,
)
from services.order.model import ORDERS, Contact, Order, RefundStatus, Step
from services.order.refunds import Refunds
from services.order.saga import Saga
from services.order.service import Orders
from services.order.settings import OrderSettings
from services.order.store import OrderStore

NOTIFY = "notify"
PRODUCTS = {
    "oak-board": PricedProduct("Oak Serving Board", 3495, "EUR", 900),
    "bowl": PricedProduct("Bowl", 1200, "EUR", 400),
}


class Around:
    """What all fakes share. By default every effect succeeds.

    :ivar asked: the effects in the order in which they were asked for.
    :ivar asked_as_retry: which of them, by position, were marked as repeating an earlier one.
    :ivar failures: errors to raise, by effect, the first one first.
    :ivar gates: effects that wait, with their work done, until their event is set.
    :ivar refund: what `payment` says of the money of a cancelled order.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.asked_as_retry: list[int] = []
        self.failures: dict[str, list[ShopError]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.told: list[Event] = []
        self.refund = RefundStatus.PAID
        self.request_ids: set[str] = set()
        self.logs: list[CallLog] = []

    def fail(self, effect: str, *errors: ShopError) -> None:
        """Lets the next attempts of an effect fail."""
        self.failures.setdefault(effect, []).extend(errors)

    def hold(self, effect: str) -> asyncio.Event:
        """Lets an effect wait for the event that this gives."""
        return self.gates.setdefault(effect, asyncio.Event())

    async def effect(self, name: str) -> None:
        """One attempt of an effect."""
        if context.current().is_retry:
            self.asked_as_retry.append(len(self.asked))
        self.asked.append(name)
        self.request_ids.add(context.current().request_id)
        self.logs.append(context.current().log)
        assert context.current().seconds_left > 0
        gate = self.gates.get(name)
        if gate is not None:
            await gate.wait()
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    def counts(self) -> Counter[str]:
        """How often each effect was asked for."""
        return Counter(self.asked)


class FakeInventory(Inventory):
    def __init__(self, around: Around) -> None:
        self._around = around

    async def reserve(self, order: Order) -> None:
        await self._around.effect(Step.RESERVE)

    async def commit(self, order: Order) -> None:
        await self._around.effect(Step.COMMIT)

    async def release(self, order: Order) -> None:
        await self._around.effect(Step.RELEASE)


class FakePayments(PaymentGateway):
    def __init__(self, around: Around) -> None:
        self._around = around

    async def authorize(self, order: Order) -> None:
        await self._around.effect(Step.AUTHORIZE)

    async def capture(self, order: Order) -> None:
        await self._around.effect(Step.CAPTURE)

    async def cancel(self, order: Order) -> RefundStatus:
        await self._around.effect(Step.REFUND)
        return self._around.refund


class FakeShipping(Shipping):
    def __init__(self, around: Around) -> None:
        self._around = around

    async def quotes_cents(self, country: str, weight_grams: int) -> dict[str, int]:
        return {"standard": 495, "express": 995} if country == "NL" else {"standard": 2495}

    async def prepare(self, order: Order) -> None:
        await self._around.effect(Step.SHIP)

    async def dispatch(self, order: Order) -> None:
        await self._around.effect(Step.DISPATCH)

    async def recall(self, order: Order) -> None:
        await self._around.effect(Step.RECALL)


class FakeNotifications(Notifications):
    def __init__(self, around: Around) -> None:
        self._around = around

    async def deliver(self, to: Recipient, event: Event) -> None:
        self._around.told.append(event)
        await self._around.effect(NOTIFY)


class FakeUsers(Buyers):
    def __init__(self) -> None:
        pass

    async def contact(self, user_id: str) -> Contact:
        return Contact(name=f"Name of {user_id}", email=f"{user_id}@example.com")


class FakeProducts(Products):
    def __init__(self) -> None:
        self.asked = 0

    async def priced(self, product_ids: Sequence[str]) -> dict[str, PricedProduct]:
        self.asked += 1
        for product_id in product_ids:
            if product_id not in PRODUCTS:
                raise ShopError(
                    Kind.NOT_FOUND,
                    "unknown-product",
                    f"There is no product {product_id}.",
                    fields={"product_id": product_id},
                )
        return {product_id: PRODUCTS[product_id] for product_id in product_ids}


class OrderProcess:
    """One process of `order`: a saga and a service on the common store."""

    def __init__(self, store: OrderStore, around: Around, owner: str, **settings: Any) -> None:
        self.metrics = Metrics()
        values: dict[str, Any] = {
            "order_answer_seconds": 5.0,
            "order_lease_seconds": 20.0,
            "order_give_up_seconds": 60.0,
        }
        # Not validated: some tests need leases that are over at once.
        chosen = OrderSettings.model_construct(**{**values, **settings})
        shipping = FakeShipping(around)
        self.saga = Saga(
            store,
            callees=Callees(FakeInventory(around), FakePayments(around), shipping),
            notifications=FakeNotifications(around),
            settings=chosen,
            owner=owner,
            tracer=TracerProvider().get_tracer("test"),
            metrics=self.metrics,
        )
        self.refunds = Refunds(store, FakePayments(around))
        self.products = FakeProducts()
        self.orders = Orders(
            store,
            self.saga,
            users=FakeUsers(),
            products=self.products,
            shipping=shipping,
            settings=chosen,
        )


class OrderHarness:
    """A store, what is around, and any number of processes."""

    def __init__(self, store: OrderStore) -> None:
        self.store = store
        self.around = Around()
        self._processes: list[OrderProcess] = []

    def process(self, owner: str = "order-1", **settings: Any) -> OrderProcess:
        """Starts a process."""
        process = OrderProcess(self.store, self.around, owner, **settings)
        self._processes.append(process)
        return process

    async def take_over(self, owner: str) -> None:
        """Starts a process for which every lease is over as soon as it has looked twice."""
        process = self.process(owner, order_lease_seconds=0.0)
        await process.saga.sweep()
        await process.saga.sweep()

    async def stop(self) -> None:
        """Stops all processes."""
        for process in self._processes:
            await process.saga.stop()

    async def begin(self, process: OrderProcess, order: Order) -> Stored[Order]:
        """Stores an order that was just placed, and lets the process drive it."""
        stored = await self.store.add(process.saga.owned(order))
        assert stored is not None
        process.saga.start(stored)
        return stored

    async def order(self, order_id: str) -> Order:
        """The order as it is stored."""
        stored = await self.store.get(order_id)
        assert stored is not None
        return stored.value

    async def finished(self, order_id: str, seconds: float = 5.0) -> Order:
        """The order once it is settled and all its events are delivered."""
        return await self.when(order_id, lambda order: order.open_since_ms is None, seconds)

    async def when(
        self, order_id: str, condition: Callable[[Order], bool], seconds: float = 5.0
    ) -> Order:
        """The order once the condition holds for it."""
        async with asyncio.timeout(seconds):
            order = await self.order(order_id)
            while not condition(order):
                await asyncio.sleep(0.005)
                order = await self.order(order_id)
            return order

    async def asked_for(self, effect: str, times: int = 1) -> None:
        """Returns once an effect was asked for so often."""
        async with asyncio.timeout(5.0):
            while self.around.asked.count(effect) < times:  # noqa: ASYNC110  the fakes only keep a list
                await asyncio.sleep(0.005)


@asynccontextmanager
async def an_order_harness(
    directory: Path, wrap: Callable[[Documents[Order]], OrderStore] = OrderStore
) -> AsyncGenerator[OrderHarness]:
    """A harness whose orders are in that directory."""
    store = SqliteStore(directory / "order.db")
    try:
        harness = OrderHarness(wrap(await Documents.open(store, ORDERS, Order)))
        try:
            yield harness
        finally:
            await harness.stop()
    finally:
        await store.close()
