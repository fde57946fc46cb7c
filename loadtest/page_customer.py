"""A customer who buys by the shop's pages, without scripts: forms, cookies, redirects."""

from __future__ import annotations

import html
import random
import re
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from urllib.parse import urlencode

from loadtest.customer import ADDRESSES, GOOD_CARDS, SETTLED_WITHIN_SECONDS
from loadtest.shop import Answer, Patience, Shop
from loadtest.thresholds import CONFIRMED, NOT_SETTLED, OUT_OF_STOCK
from loadtest.visitor import PRICE, Visitor, first

_MAX_PRODUCTS = 3
_MAX_QUANTITY = 2
_TOLD_WITHIN_SECONDS = 20.0

_FORM = r'<form[^>]* action="{action}"[^>]*>(.*?)</form>'
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
_STATE = re.compile(r'data-state="([a-z]+)"')
_ORDER = re.compile(r"/orders/(ord_\w+)$")
_SUM = re.compile(
    r'class="sum(?: sum-of sum-of-standard)?"><dt>Total</dt><dd>(.*?)</dd>', re.DOTALL
)
# Why an order was not placed, and what it says of stock (services/inventory/model.py).
_REASON = re.compile(r'id="status-title">.*?</h1>\s*<p>(.*?)</p>', re.DOTALL)
_SOLD_OUT = re.compile(r"is sold out|[Oo]nly \d+")
_LINE = re.compile(r'<li class="line(?: line-wrong)?"')


class PageCustomer:
    """A customer who uses the pages; every public method is a journey.

    :param think: returns when the person goes on.
    """

    def __init__(self, shop: Shop, think: Callable[[], None]) -> None:
        self._shop = shop
        self._think = think
        self._visitor = Visitor(shop, think)
        self._email = f"load-{uuid.uuid4().hex}@example.com"
        self._password = uuid.uuid4().hex
        self._has_account = False
        self._is_logged_in = False

    def fill_cart_and_leave(self) -> None:
        """Puts something into the cart, looks at it, and takes it out again."""
        self._fill_cart(1)
        self._empty_cart()

    def log_out_and_in(self) -> None:
        """Logs out, and logs in again."""
        self._enter()
        with self._page("/profile", step="pages: profile") as page:
            assert self._email in page, "a profile without its e-mail address"
        self._think()
        self._submit("/logout", _hidden(page, "/logout"), step="account: log out by page", to="/")
        self._is_logged_in = False
        self._think()
        self._enter()

    def buy(self) -> None:
        """Buys: from the product to the order's page, the list of orders and the inbox."""
        if not self._fill_cart(random.randint(1, _MAX_PRODUCTS)):
            return
        self._enter()
        self._think()
        payment = self._go_to_payment()
        if payment is None:
            return
        self._think()
        order_id = self._pay(payment)
        if order_id is None or not self._settled(order_id, _total(payment)):
            return
        self._think()
        with self._page("/orders", step="orders: list page") as page:
            assert order_id in page, "an order is not on the page of orders"
        self._await_message(order_id)

    def _fill_cart(self, wanted: int) -> int:
        """Puts some products into the cart, by their pages. Returns how many were for sale."""
        chosen = 0
        ids = list(self._visitor.leaf_through_pages())
        for product_id in random.sample(ids, k=min(wanted, len(ids))):
            self._think()
            path = f"/products/{product_id}"
            with self._page(path, step="pages: product") as page:
                is_for_sale = 'class="buy"' in page
            if not is_for_sale:
                continue
            quantity = random.randint(1, _MAX_QUANTITY)
            fields = {**_hidden(page, "/cart"), "quantity": str(quantity)}
            self._submit("/cart", fields, step="pages: add to cart", to="/cart")
            chosen += 1
            with self._page("/cart", step="pages: cart") as page:
                assert f'"/products/{product_id}"' in page, "a product is not in the cart"
                lines = len(_LINE.findall(page))
                assert lines == chosen, f"{lines} lines in a cart of {chosen} products"
        return chosen

    def _empty_cart(self) -> None:
        while True:
            with self._page("/cart", step="pages: cart") as page:
                lines = _LINE.findall(page)
            if not lines:
                return
            forms = [
                dict(_HIDDEN.findall(form))
                for form in re.findall(_FORM.format(action="/cart"), page, re.DOTALL)
            ]
            remove = next(form for form in forms if form.get("action") == "remove")
            self._submit("/cart", remove, step="pages: remove from cart", to="/cart")

    def _enter(self) -> None:
        """Registers, or logs in."""
        if self._is_logged_in:
            return
        path, step = ("/login", "log in") if self._has_account else ("/register", "register")
        with self._page(path, step=f"pages: {step}") as page:
            fields = _hidden(page, path)
        self._think()
        fields |= {"email": self._email, "password": self._password}
        if not self._has_account:
            fields["name"] = "Ada Lovelace"
        self._submit(path, fields, step=f"account: {step} by page", to=fields["next"])
        self._has_account = self._is_logged_in = True

    def _go_to_payment(self) -> str | None:
        """Sends an address. Returns the page for payment; None if something is sold out."""
        path = "/checkout?change=1"
        with self._page(path, step="checkout: delivery page") as page:
            fields = _hidden(page, "/checkout/address")
        self._think()
        fields |= random.choice(ADDRESSES).model_dump()
        step = "checkout: delivery address"
        with self._post("/checkout/address", fields, step=step, expect=(200, 303)) as answer:
            if answer.status == 200:
                assert "Check and pay" in answer.text, "an address is not followed by the payment"
            onward = answer.location or "/checkout"
        if answer.status == 200:
            return answer.text
        with self._shop.get_or_move(onward, step="checkout: payment page") as answer:
            if answer.status == 303:
                assert answer.location == "/cart", f"the payment page leads to {answer.location}"
                answer.step = OUT_OF_STOCK
            else:
                assert "Check and pay" in answer.text, "the payment page is another one"
        if answer.status == 200:
            return answer.text
        self._empty_cart()
        return None

    def _pay(self, payment: str) -> str | None:
        """Returns the order's id; None if something is sold out."""
        fields = {
            **_hidden(payment, "/checkout"),
            "shipping": "standard",
            "payment_method": random.choice(GOOD_CARDS),
        }
        step = "checkout: place order by page"
        with self._post("/checkout", fields, step=step, expect=(303, 409)) as answer:
            if answer.status == 409:
                answer.step = OUT_OF_STOCK
                order_id = None
            else:
                found = _ORDER.search(answer.location)
                assert found, f"an order leads to {answer.location}"
                order_id = found[1]
        if order_id is None:
            self._empty_cart()
        return order_id

    def _settled(self, order_id: str, total: str) -> bool:
        """Waits on the order's page. Returns whether the order is confirmed."""
        patience = Patience(SETTLED_WITHIN_SECONDS)
        path, is_whole = f"/orders/{order_id}", True
        while True:
            with self._shop.get(path, step=NOT_SETTLED) as answer:
                state = first(_STATE, answer.text)
                if is_whole:
                    shown = _total(answer.text)
                    assert shown == total, f"an order of {total} costs {shown}"
                if state == "confirmed":
                    answer.step = CONFIRMED
                elif state == "cancelled":
                    why = first(_REASON, answer.text)
                    assert _SOLD_OUT.search(why), f"an order is cancelled: {why}"
                    answer.step = OUT_OF_STOCK
                else:
                    assert not patience.is_over, f"an order is {state} for too long"
            if state in {"confirmed", "cancelled"}:
                return state == "confirmed"
            patience.pause()
            path, is_whole = f"/orders/{order_id}/status", False

    def _await_message(self, order_id: str) -> None:
        patience = Patience(_TOLD_WITHIN_SECONDS)
        while True:
            with self._page("/inbox", step="orders: inbox page") as page:
                is_there = f'"/orders/{order_id}"' in page
                assert is_there or not patience.is_over, "an order is not in the inbox"
            if is_there:
                return
            patience.pause()

    def _page(self, path: str, *, step: str) -> AbstractContextManager[str]:
        return self._shop.page(path, step=step)

    def _submit(self, path: str, fields: Mapping[str, str], *, step: str, to: str) -> None:
        """Sends a form that leads to another page."""
        with self._post(path, fields, step=step, expect=(303,)) as answer:
            assert answer.location == to, f"{path} leads to {answer.location}"

    def _post(
        self, path: str, fields: Mapping[str, str], *, step: str, expect: Collection[int]
    ) -> AbstractContextManager[Answer]:
        return self._shop.request(
            "POST",
            path,
            step=step,
            expect=expect,
            data=urlencode(fields),
            headers={"content-type": "application/x-www-form-urlencoded"},
        )


def _hidden(page: str, action: str) -> dict[str, str]:
    """Returns the hidden fields of the first form that is sent to a path."""
    form = first(re.compile(_FORM.format(action=re.escape(action)), re.DOTALL), page, is_text=False)
    return {name: html.unescape(value) for name, value in _HIDDEN.findall(form)}


def _total(page: str) -> str:
    """Returns the total of an order with standard delivery, as the page shows it."""
    return first(PRICE, first(_SUM, page, is_text=False))
