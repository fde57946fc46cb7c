"""The cart's cookie: compact, bounded and sealed."""

from __future__ import annotations

from typing import cast

from services.common.fields import is_slug
from services.common.limits import MAX_LINES
from services.frontend.model import MAX_QUANTITY, Cart, CartLine
from services.frontend.sealing import Seal

_PURPOSE = "cart"


def cart_to_cookie(seal: Seal, cart: Cart) -> str:
    """The cookie's value. The fullest cart fits into what every browser keeps (RFC 6265 §6.1)."""
    return seal.close(_PURPOSE, [[line.product_id, line.quantity] for line in cart.lines])


def cart_from_cookie(seal: Seal, text: str) -> Cart | None:
    """The cart in a cookie's value; None when somebody else wrote it."""
    value = seal.open(_PURPOSE, text)
    if not isinstance(value, list):
        return None
    lines: dict[str, CartLine] = {}
    for entry in cast("list[object]", value)[:MAX_LINES]:
        match entry:
            case [str(product_id), int(quantity)] if (
                is_slug(product_id) and 0 < quantity <= MAX_QUANTITY
            ):
                lines[product_id] = CartLine(product_id, quantity)
            case _:  # an older release's idea of a cart
                return None
    return Cart(tuple(lines.values()))
