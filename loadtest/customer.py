"""A customer with an account who buys by the API, and checks every figure of the order."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

from loadtest.account import Account
from loadtest.answers import (
    Address,
    AddressBook,
    Inbox,
    Order,
    OrderPage,
    ProductDetails,
    Profile,
    Quotes,
    SavedAddress,
    Shipment,
)
from loadtest.basket import Basket
from loadtest.shop import Answer, Patience, Shop
from loadtest.thresholds import CONFIRMED, NOT_SETTLED, OUT_OF_STOCK
from loadtest.visitor import Visitor

_ACCEPTED = "checkout: accepted"
_DECLINED = "checkout: declined"
_SHOWN = "orders: shown"
_CANCELLED = "checkout: cancelled"
_TOO_LATE = "checkout: too late to cancel"

_MAX_PRODUCTS = 3
_MAX_QUANTITY = 2
SETTLED_WITHIN_SECONDS = 30.0
_TOLD_WITHIN_SECONDS = 20.0

GOOD_CARDS = ("pm_card_visa", "pm_card_mastercard")
# https://docs.stripe.com/testing, and what the shop makes of each.
_REFUSED_CARDS = {
    "pm_card_visa_chargeDeclined": "card-declined",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "insufficient-funds",
    "pm_card_visa_chargeDeclinedExpiredCard": "expired-card",
    "pm_card_visa_chargeDeclinedProcessingError": "processing-error",
    "pm_card_authenticationRequired": "authentication-required",
}
_SHIPPED = frozenset({"dispatched", "in-transit", "out-for-delivery", "delivered"})

ADDRESSES = tuple(
    Address(name="Ada Lovelace", street=street, postal_code=code, city=city, country=country)
    for street, code, city, country in (
        ("Keizersgracht 123", "1015 CJ", "Amsterdam", "NL"),
        ("Rue Neuve 5", "1000", "Bruxelles", "BE"),
        ("Lange Straße 7", "70173", "Stuttgart", "DE"),
        ("Calle Mayor 9", "28013", "Madrid", "ES"),
        ("Queen Street 11", "EC4R 1BR", "London", "GB"),
    )
)


class Customer:
    """A customer; every public method is a journey.

    :param think: returns when the person goes on.
    """

    def __init__(self, shop: Shop, think: Callable[[], None]) -> None:
        self._shop = shop
        self._think = think
        self._visitor = Visitor(shop, think)
        self._account = Account(shop)

    def buy(self) -> None:
        """Buys: from the catalogue to the parcel, the message and the list of orders."""
        basket, key = self._fill_basket(random.choice(GOOD_CARDS)), uuid.uuid4().hex
        order = self._place(basket, key)
        if order is None:
            return
        self._repeat(order, basket, key)
        self._await_message(order, "order-confirmed")
        self._think()
        self._track(order)
        self._find_in_history(order)

    def buy_with_refused_card(self) -> None:
        """Pays with a card that is refused, for the right reason; the order is cancelled."""
        card, code = random.choice(list(_REFUSED_CARDS.items()))
        basket = self._fill_basket(card)
        with self._post_order(basket, uuid.uuid4().hex, expect=(202, 402, 409)) as answer:
            if answer.status == 409:
                _count_out_of_stock(answer)
                return
            if answer.status == 402:
                problem = answer.problem()
                assert problem.code == code, f"{card} is refused as {problem.code}"
                assert "order_id" in problem.fields, "a refusal does not name the order"
                order_id, answer.step = problem.fields["order_id"], _DECLINED
                outcomes = {code: _SHOWN}
            else:
                order_id, answer.step = answer.read(Order).order_id, _ACCEPTED
                outcomes = {code: _DECLINED, "out-of-stock": OUT_OF_STOCK}
        self._settled(order_id, outcomes)

    def change_mind(self) -> None:
        """Cancels an order right after it is placed."""
        order = self._place(self._fill_basket(random.choice(GOOD_CARDS)), uuid.uuid4().hex)
        if order is None:
            return
        self._think()
        path = f"/api/orders/{order.order_id}/cancel"
        with self._request("POST", path, step=_CANCELLED, expect=(200, 202, 409)) as answer:
            if answer.status == 409:
                code = answer.problem().code
                assert code == "shipment-under-way", f"a cancellation is refused as {code}"
                answer.step = _TOO_LATE
                return
            order_id = answer.read(Order).order_id
            assert order_id == order.order_id, "another order was cancelled"
        outcomes = {"cancelled-by-customer": _SHOWN, "confirmed": _TOO_LATE}
        if self._settled(order_id, outcomes).state == "cancelled":
            self._await_message(order, "order-cancelled")

    def keep_profile(self) -> None:
        """Changes the name, and adds and removes an address."""
        name = f"Ada {uuid.uuid4().hex[:8]}"
        with self._request(
            "PATCH", "/api/users/me", step="account: rename", json={"name": name}
        ) as answer:
            assert answer.read(Profile).name == name, "a new name is not kept"
        with self._get("/api/users/me", step="account: profile") as answer:
            profile = answer.read(Profile)
            assert (profile.name, profile.email) == (name, self._account.email), "somebody else"
        self._think()
        path, address = "/api/users/me/addresses", random.choice(ADDRESSES).model_dump()
        with self._request(
            "POST", path, step="account: add address", expect=(201,), json=address
        ) as answer:
            saved = answer.read(SavedAddress)
            assert saved.model_dump(exclude={"id"}) == address, "another address was added"
        with self._get(path, step="account: addresses") as answer:
            assert saved in answer.read(AddressBook).items, "an address is not in the book"
        with self._request(
            "DELETE", f"{path}/{saved.id}", step="account: remove address", expect=(204,)
        ):
            pass
        with self._get(path, step="account: addresses") as answer:
            assert saved not in answer.read(AddressBook).items, "an address was not removed"

    def come_back(self) -> None:
        """Renews the last session, ends it, and logs in."""
        self._account.authorization()
        self._account.refresh()
        self._think()
        self._account.authorization()
        self._account.log_out()
        self._account.log_in()
        with self._get("/api/users/me", step="account: profile") as answer:
            assert answer.read(Profile).email == self._account.email, "somebody else"

    def _fill_basket(self, payment_method: str) -> Basket:
        """Chooses a few products, and asks what shipping them costs."""
        offered = self._visitor.products()
        likely = [
            item for item in offered if item.available is None or item.available >= _MAX_QUANTITY
        ]
        shelf = likely or offered
        chosen = random.sample(shelf, k=random.randint(1, min(_MAX_PRODUCTS, len(shelf))))
        lines: list[tuple[ProductDetails, int]] = []
        for item in chosen:
            self._think()
            lines.append((self._visitor.product(item.id), random.randint(1, _MAX_QUANTITY)))
        address = random.choice(ADDRESSES)
        weight_grams = sum(quantity * product.weight_grams for product, quantity in lines)
        with self._shop.get(
            "/api/shipping/quotes",
            step="checkout: quote",
            query={"country": address.country, "weight_grams": weight_grams},
        ) as answer:
            quotes = {quote.service: quote.price_cents for quote in answer.read(Quotes).quotes}
            assert "standard" in quotes, "there is no standard shipping"
        self._think()
        return Basket(tuple(lines), address, quotes["standard"], payment_method)

    def _place(self, basket: Basket, key: str) -> Order | None:
        """Returns the confirmed order; None if something is out of stock, which is no failure."""
        with self._post_order(basket, key, expect=(201, 202, 409)) as answer:
            if answer.status == 409:
                _count_out_of_stock(answer)
                return None
            order = answer.read(Order)
            basket.check(order)
            if answer.status == 201:
                assert order.state == "confirmed", f"201 for an order that is {order.state}"
                answer.step = CONFIRMED
                return order
            answer.step = _ACCEPTED
        settled = self._settled(
            order.order_id, {"confirmed": CONFIRMED, "out-of-stock": OUT_OF_STOCK}
        )
        return settled if settled.state == "confirmed" else None

    def _repeat(self, order: Order, basket: Basket, key: str) -> None:
        """Sends the same request again, as after a lost answer."""
        with self._post_order(basket, key, expect=(201,)) as answer:
            answer.step = "checkout: repeated"
            assert answer.read(Order) == order, "the same key gives another order"

    def _settled(self, order_id: str, outcomes: Mapping[str, str]) -> Order:
        """Waits until an order is confirmed or cancelled.

        :param outcomes: the possible outcomes (``confirmed``, or why it was cancelled), and for
            each the step as which the last request is counted.
        """
        patience = Patience(SETTLED_WITHIN_SECONDS)
        while True:
            with self._get(f"/api/orders/{order_id}", step=NOT_SETTLED) as answer:
                order = answer.read(Order)
                assert order.order_id == order_id, "another order than was asked for"
                is_settled = order.state in {"confirmed", "cancelled"}
                if is_settled:
                    outcome = order.reason.code if order.reason else order.state
                    assert outcome in outcomes, f"the order's outcome is {outcome}"
                    answer.step = outcomes[outcome]
                else:
                    assert not patience.is_over, f"an order is {order.state} for too long"
            if is_settled:
                return order
            patience.pause()

    def _await_message(self, order: Order, kind: str) -> None:
        """Waits for a message, which the inbox has once; it may come a moment after the order."""
        patience = Patience(_TOLD_WITHIN_SECONDS)
        while True:
            with self._get("/api/notifications", step="orders: inbox") as answer:
                messages = [
                    message
                    for message in answer.read(Inbox).items
                    if (message.order_id, message.kind) == (order.order_id, kind)
                ]
                assert len(messages) <= 1, f"{kind} is told {len(messages)} times"
                assert messages or not patience.is_over, f"{kind} is not in the inbox"
                for message in messages:
                    assert order.order_id in message.text, f"{kind} does not name the order"
            if messages:
                return
            patience.pause()

    def _track(self, order: Order) -> None:
        """Follows the parcel until it has left."""
        patience = Patience(_TOLD_WITHIN_SECONDS)
        while True:
            with self._get(
                f"/api/shipping/orders/{order.order_id}", step="orders: tracking"
            ) as answer:
                shipment = answer.read(Shipment)
                assert shipment.order_id == order.order_id, "another order's parcel"
                assert shipment.history[-1].state == shipment.state, "the history is behind"
                times = [moment.at for moment in shipment.history]
                assert times == sorted(times), "the history is in another order"
                has_left = shipment.state in _SHIPPED
                assert has_left or not patience.is_over, f"a parcel is still {shipment.state}"
            if has_left:
                return
            patience.pause()

    def _find_in_history(self, order: Order) -> None:
        with self._get("/api/orders", step="orders: history") as answer:
            assert order in answer.read(OrderPage).items, "an order is not in the history"

    def _post_order(
        self, basket: Basket, key: str, *, expect: Collection[int]
    ) -> AbstractContextManager[Answer]:
        return self._request(
            "POST",
            "/api/orders",
            step="checkout: place order",
            expect=expect,
            json=basket.body(),
            headers={"idempotency-key": key},
        )

    def _get(self, path: str, *, step: str) -> AbstractContextManager[Answer]:
        return self._request("GET", path, step=step)

    def _request(
        self,
        method: str,
        path: str,
        *,
        step: str,
        expect: Collection[int] = (200,),
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Answer]:
        """Makes a request with the customer's token."""
        own = {**(headers or {}), **self._account.authorization()}
        return self._shop.request(method, path, step=step, expect=expect, json=json, headers=own)


def _count_out_of_stock(answer: Answer) -> None:
    code = answer.problem().code
    assert code == "out-of-stock", f"an order is refused as {code}"
    answer.step = OUT_OF_STOCK
