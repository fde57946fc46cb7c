"""The use cases of the order service: place, show and cancel orders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.common import context, error_codes
from services.common.clock import now_ms
from services.common.documents import Page
from services.common.errors import Kind, ShopError
from services.common.observing.telemetry import inject_trace
from services.order import model
from services.order.clients import Buyers, PricedProduct, Products, Shipping
from services.order.model import Line, Order, PlaceOrder
from services.order.saga import Saga
from services.order.settings import OrderSettings
from services.order.store import OrderStore

# Kept back from the caller's deadline for the answer itself.
_ANSWER_RESERVE_SECONDS = 0.5


class Orders:
    """Orders of all users; every method takes the user whose orders it may touch."""

    def __init__(
        self,
        store: OrderStore,
        saga: Saga,
        *,
        users: Buyers,
        products: Products,
        shipping: Shipping,
        settings: OrderSettings,
    ) -> None:
        self._store = store
        self._saga = saga
        self._users = users
        self._products = products
        self._shipping = shipping
        self._settings = settings

    async def place(self, command: PlaceOrder) -> Order:
        """Places an order, or finds the one that this key already stands for, and waits a while for
        it to settle.

        :raises ShopError: INVALID when the key was used with another body, or for an unknown
            product or shipping service; CONFLICT when it costs more than the customer was shown.
        """
        stored = await self._store.get(command.order_id)
        if stored is None:
            order = await self._priced(command)
            model.check_total(order, command.expected_total_cents)
            stored = await self._store.add(order)
            if stored is not None:
                self._saga.start(stored, context.current().log)
            else:
                stored = await self._store.get(command.order_id)
        if stored is None or stored.value.fingerprint != command.fingerprint:
            raise ShopError(
                Kind.INVALID,
                error_codes.IDEMPOTENCY_KEY_REUSED,
                "This Idempotency-Key was used for another order. Use a new key for a new order.",
            )
        return await self._settled(stored.value)

    async def get(self, user_id: str, order_id: str) -> Order:
        """One of the user's orders. NOT_FOUND also for somebody else's."""
        stored = await self._store.get(order_id)
        if stored is None or stored.value.user_id != user_id:
            raise ShopError(Kind.NOT_FOUND, "unknown-order", "There is no such order.")
        return stored.value

    async def history(
        self,
        user_id: str,
        limit: int,
        cursor: str | None,
        *,
        attempts: bool | None = None,
        query: str = "",
    ) -> Page[Order]:
        """The user's orders, newest first.

        :param attempts: True for only the attempts, False for all but those.
        :param query: a number or words; only what is about it.
        """

        def is_wanted(order: Order) -> bool:
            return (attempts is None or order.is_attempt is attempts) and (
                not query or model.is_about(order, query)
            )

        return await self._store.of_user(user_id, limit, cursor, is_wanted)

    async def cancel(self, user_id: str, order_id: str) -> Order:
        """Cancels a confirmed order that the carrier has not got yet.

        :raises ShopError: CONFLICT when it is too late or too early.
        """
        order = await self._settled(await self.get(user_id, order_id))
        if order.state is model.OrderState.CONFIRMED:
            await self._turn_back(order_id)
            order = await self._settled(order)
            if order.state is model.OrderState.CONFIRMED:
                raise ShopError(
                    Kind.CONFLICT,
                    error_codes.SHIPMENT_UNDER_WAY,
                    "This order is on its way already and can no longer be cancelled.",
                )
        if order.state is model.OrderState.WORKING:
            raise model.in_progress()
        return order

    async def _turn_back(self, order_id: str) -> None:
        """Begins the cancellation of a confirmed order, unless another request has."""
        now = now_ms()

        def turned_back(order: Order) -> Order:
            if order.state is not model.OrderState.CONFIRMED:
                return order
            return self._saga.owned(model.cancelled_by_customer(order, now))

        turned = await self._store.update(order_id, turned_back)
        if turned is not None and turned.is_written:
            self._saga.start(turned.stored, context.current().log)

    async def _settled(self, order: Order) -> Order:
        """The order once it is settled, or as it stands when there is no more time to wait."""
        return await self._saga.settled(order.id, self._patience_seconds()) or order

    async def _priced(self, command: PlaceOrder) -> Order:
        contact, products = await asyncio.gather(
            self._users.contact(command.user_id), self._known_products(list(command.quantities))
        )
        lines = tuple(
            Line(
                product_id=product_id,
                name=products[product_id].name,
                quantity=quantity,
                unit_price_cents=products[product_id].price_cents,
                weight_grams=products[product_id].weight_grams,
            )
            for product_id, quantity in command.quantities.items()
        )
        placed_ms = now_ms()
        trace: dict[str, str] = {}
        inject_trace(trace)
        order = model.placed(
            command,
            contact=contact,
            lines=lines,
            shipping_cents=await self._shipping_cents(command, lines),
            currency=products[lines[0].product_id].currency,
            now_ms=placed_ms,
            request_id=context.current().request_id,
            trace=trace,
        )
        return self._saga.owned(order)

    async def _shipping_cents(self, command: PlaceOrder, lines: tuple[Line, ...]) -> int:
        country, wanted = command.address.country, command.shipping_service
        weight_grams = sum(line.total_grams for line in lines)
        quotes_cents = await self._shipping.quotes_cents(country, weight_grams)
        if wanted not in quotes_cents:
            raise ShopError(
                Kind.INVALID,
                error_codes.NO_SUCH_SHIPPING,
                f"We cannot ship this order to {country} by {wanted} service.",
            )
        return quotes_cents[wanted]

    async def _known_products(self, product_ids: Sequence[str]) -> dict[str, PricedProduct]:
        try:
            return await self._products.priced(product_ids)
        except ShopError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            # Not found is the product, not the URL that the client asked for.
            raise ShopError(Kind.INVALID, error.code, error.detail, fields=error.fields) from error

    def _patience_seconds(self) -> float:
        left_seconds = context.current().seconds_left - _ANSWER_RESERVE_SECONDS
        return max(0.0, min(self._settings.order_answer_seconds, left_seconds))
