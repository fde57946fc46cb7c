"""A basket of products, and the check of an order that is placed with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadtest.answers import Address, Order, ProductDetails


@dataclass(frozen=True, slots=True)
class Basket:
    """Products with their quantities, and how they are shipped and paid."""

    lines: tuple[tuple[ProductDetails, int], ...]
    address: Address
    shipping_cents: int
    payment_method: str

    def body(self) -> dict[str, Any]:
        """Returns the body of the order."""
        return {
            "items": [
                {"product_id": product.id, "quantity": quantity} for product, quantity in self.lines
            ],
            "address": self.address.model_dump(),
            "payment_method": self.payment_method,
        }

    def check(self, order: Order) -> None:
        """Checks an order.

        :raises AssertionError: it has other products or other sums.
        """
        bought = [
            (line.product_id, line.quantity, line.unit_price_cents, line.total_cents)
            for line in order.lines
        ]
        wanted = [
            (product.id, quantity, product.price_cents, quantity * product.price_cents)
            for product, quantity in self.lines
        ]
        assert sorted(bought) == sorted(wanted), "an order's lines are not what was asked for"
        items_cents = sum(line.total_cents for line in order.lines)
        assert order.items_cents == items_cents, "an order's lines have another sum"
        assert order.shipping_cents == self.shipping_cents, "shipping costs not what was quoted"
        assert order.total_cents == items_cents + self.shipping_cents, "a total is not the sum"
        assert order.address == self.address, "an order goes to another address"
        assert order.payment_method == self.payment_method, "an order is paid with another card"
