"""An event, and the message that the customer gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.notification.model import Message, Notify

FACTS: Mapping[str, str] = {
    "order_id": "ord_mfrggzdfmztwq2lkmfrggzdf",
    "total_cents": "8605",
    "currency": "EUR",
    "reason": "Your card was declined.",
    "tracking_number": "MM0123456789NL",
    "code": "a-code-of-a-link",
    "shop_url": "http://127.0.0.1:8080",
}
NOW_MS = 1_700_000_000_000


def a_message(**changes: Any) -> Message:
    """A message whose mail is due."""
    message = Message(
        id="ord_1:confirmed",
        user_id="usr_ada",
        name="Ada",
        email="ada@example.com",
        kind="order-confirmed",
        order_id="ord_1",
        subject="Confirmed",
        text="It is.",
        created_ms=NOW_MS,
        due_ms=NOW_MS,
    )
    return message.model_copy(update=changes)


def an_event(**changes: Any) -> Notify:
    """The event of :func:`a_message`."""
    event = Notify(
        event_id="ord_1:confirmed",
        user_id="usr_ada",
        name="Ada",
        email="ada@example.com",
        kind="order-confirmed",
        facts=FACTS,
    )
    return replace(event, **changes)
