"""Messages to customers: their documents and their texts, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from services.common.documents import Collection, Index
from services.common.errors import Kind, ShopError

MESSAGES = Collection(
    "messages",
    indexes=(
        Index("by_user", equal=("user_id",), order="created_ms"),
        Index("unsent", order="due_ms"),
    ),
)

_FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 60_000
# RFC 5321 §4.5.4.1 gives a relay 4 to 5 days. The shop's own relay has that patience for a
# customer's; that the shop cannot reach its relay for a day is for its operator, and what the mail
# would say is old by then and in the inbox all the same.
_PATIENCE_MS = 24 * 3_600_000


class Message(BaseModel):
    """One message; its id is the event's, so that a repeated event finds it there.

    :param due_ms: when its mail is to be sent (Unix milliseconds): 0 for at once, later after a
        failure; None when there is nothing (more) to send.
    :param is_being_sent: whether a process has taken the mail for itself.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    user_id: str
    name: str
    email: str
    kind: str
    order_id: str
    subject: str
    text: str
    created_ms: int
    due_ms: int | None = None
    is_being_sent: bool = False
    attempts: int = 0
    mailed_ms: int | None = None


class Text(NamedTuple):
    """What a message says."""

    subject: str
    body: str


_Facts = Mapping[str, str]


def compose(kind: str, name: str, facts: _Facts) -> Text:
    """The text of a message.

    :raises ShopError: INVALID for a kind that is not known or a fact that is missing or malformed.
    """
    write = _TEXTS.get(kind)
    if write is None:
        raise ShopError(Kind.INVALID, "unknown-kind", f"There is no message of the kind {kind!r}.")
    try:
        text = write(facts)
    except KeyError as error:
        raise ShopError(Kind.INVALID, "missing-fact", f"A {kind} message needs {error}.") from error
    except ValueError as error:
        raise ShopError(Kind.INVALID, "malformed-fact", f"A fact is malformed: {error}.") from error
    return Text(text.subject, f"Hello {name},\n\n{text.body}\n\nYour Meshmart team\n")


def claimed(message: Message) -> Message:
    """In the hands of a process that is about to send its mail."""
    return message.model_copy(update={"is_being_sent": True})


def postponed(message: Message, now_ms: int, jitter: float) -> Message:
    """After a failed attempt: again later, with a doubling pause, unless it has failed for a day.

    :param jitter: 0 to 1, takes up to half of the pause away.
    """
    is_given_up = now_ms - message.created_ms > _PATIENCE_MS
    pause_ms = min(LONGEST_PAUSE_MS, _FIRST_PAUSE_MS * 2 ** min(message.attempts, 20))
    return message.model_copy(
        update={
            "attempts": message.attempts + 1,
            "due_ms": None if is_given_up else now_ms + round(pause_ms * (1 - jitter / 2)),
            "is_being_sent": False,
        }
    )


def mailed(message: Message, now_ms: int) -> Message:
    """After the mail server has taken it."""
    return message.model_copy(update={"mailed_ms": now_ms, "due_ms": None, "is_being_sent": False})


def unmailable(message: Message) -> Message:
    """After the mail server has refused it for good."""
    return message.model_copy(update={"due_ms": None, "is_being_sent": False})


def _order_confirmed(facts: _Facts) -> Text:
    return Text(
        f"Your order {_short(facts)} is confirmed",
        f"Thank you for your order {facts['order_id']}. "
        f"We have charged {_money(facts)} to your card "
        "and are packing your parcel now. We will write again when it is on its way.",
    )


def _order_cancelled(facts: _Facts) -> Text:
    return Text(
        f"Your order {_short(facts)} was cancelled",
        f"Your order {facts['order_id']} was cancelled: {facts['reason']} "
        "Whatever was charged or set aside on your card for it is given back.",
    )


def _shipment_dispatched(facts: _Facts) -> Text:
    return Text(
        f"Your order {_short(facts)} is on its way",
        f"The parcel of your order {facts['order_id']} is on its way. "
        f"Its tracking number is {facts['tracking_number']}.",
    )


def _shipment_delivered(facts: _Facts) -> Text:
    return Text(
        f"Your order {_short(facts)} was delivered",
        f"The parcel of your order {facts['order_id']} was delivered. "
        "We hope you like what is in it.",
    )


_TEXTS: Mapping[str, Callable[[_Facts], Text]] = {
    "order-confirmed": _order_confirmed,
    "order-cancelled": _order_cancelled,
    "shipment-dispatched": _shipment_dispatched,
    "shipment-delivered": _shipment_delivered,
}


def _short(facts: _Facts) -> str:
    return facts["order_id"][-6:].upper()


def _money(facts: _Facts) -> str:
    cents = int(facts["total_cents"])
    return f"{facts['currency']} {cents // 100}.{cents % 100:02d}"
