"""Messages to customers: their documents and their texts, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self, TypedDict, Unpack

from pydantic import Field

from services.common.backoff import Backoff
from services.common.documents import Collection, Document, Index
from services.common.errors import Kind, ShopError
from services.common.fields import isolated
from services.common.money import Money

MESSAGES = Collection(
    "messages",
    indexes=(
        Index("by_user", equal=("user_id",), order="created_ms"),
        Index("unsent", order="due_ms"),
    ),
)
ADDRESSES = Collection("confirmed_addresses")

# While the mail server is away.
BACKOFF = Backoff(first_seconds=1, longest_seconds=60)
# RFC 5321 §4.5.4.1 gives a relay 4 to 5 days. The shop's own relay has that patience for a
# customer's; that the shop cannot reach its relay for a day is for its operator, and what the mail
# would say is old by then and in the inbox all the same.
PATIENCE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Notify:
    """The command to tell a user something, once per event."""

    event_id: str
    user_id: str
    name: str
    email: str
    kind: str
    facts: Mapping[str, str]


class MessageChanges(TypedDict, total=False):
    email: str
    due_ms: int | None
    is_being_sent: bool
    is_held: bool
    mail_text: str
    attempts: int
    mailed_ms: int | None


class Message(Document):
    """One message; its id is the event's, so that a repeated event finds it there.

    :param due_ms: when its mail is to be sent (Unix milliseconds): 0 for at once, later after a
        failure; None when there is nothing (more) to send.
    :param is_being_sent: whether a process has taken the mail for itself.
    :param is_held: whether the mail waits until the user has confirmed the address.
    :param mail_text: what the mail says instead of `text`, as long as it is to be sent: a link
        that proves who gets the mail is shown nowhere else, and kept no longer.
    """

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
    is_held: bool = False
    mail_text: str = Field(default="", repr=False)
    attempts: int = 0
    mailed_ms: int | None = None

    def changed(self, **to: Unpack[MessageChanges]) -> Self:
        return self._changed(to)


class ConfirmedAddress(Document):
    """The address at which mail reaches a user, who has shown that. The id is the user's."""

    id: str
    email: str
    confirmed_ms: int


class MailState(StrEnum):
    """Whether a user's messages are mailed."""

    OFF = "off"
    WAITING = "waiting"
    ON = "on"


class Text(NamedTuple):
    """What a message says.

    :param mail: what its mail says, where that is something else.
    """

    subject: str
    body: str
    mail: str = ""


_Facts = Mapping[str, str]


def compose(kind: str, name: str, facts: _Facts) -> Text:
    """The text of a message.

    A mail of its own goes to an address that nobody has confirmed, perhaps to a stranger: nothing
    in it is of the user's making, the name neither.

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
    return Text(
        text.subject,
        _letter(f"Hello {isolated(name)},", text.body),
        _letter("Hello,", text.mail) if text.mail else "",
    )


def queued(command: Notify, text: Text, now_ms: int, *, is_mailed: bool) -> Message:
    """A new message, in the inbox and, where messages are mailed, to be mailed at once."""
    return Message(
        id=command.event_id,
        user_id=command.user_id,
        name="" if text.mail else command.name,
        email=command.email,
        kind=command.kind,
        order_id=command.facts.get("order_id", ""),
        subject=text.subject,
        text=text.body,
        created_ms=now_ms,
        due_ms=0 if is_mailed else None,
        mail_text=text.mail,
    )


def may_be_mailed(message: Message, confirmed: ConfirmedAddress | None) -> bool:
    """Whether a mail may go to its address: nobody gets any who has not confirmed that they want
    them, except the one with the link for that.
    """
    return message.kind in _LINK_KINDS or confirmed is not None


def held(message: Message) -> Message:
    """Until the address is confirmed."""
    return message.changed(due_ms=None, is_held=True, is_being_sent=False)


def released(message: Message) -> Message:
    """The address is confirmed."""
    return message.changed(due_ms=0, is_held=False)


def claimed(message: Message, confirmed: ConfirmedAddress | None) -> Message:
    """In the hands of a process that is about to send its mail, to the address that the user has
    confirmed: an order keeps the one of its time, and a guest may have corrected that since.
    """
    is_link = message.kind in _LINK_KINDS
    email = message.email if is_link or confirmed is None else confirmed.email
    return message.changed(is_being_sent=True, email=email)


def gives_address(kind: str) -> bool:
    """Whether a message of that kind goes to the address that the user has given last."""
    return kind == _CONFIRM_ADDRESS


def postponed(message: Message, now_ms: int, jitter: float) -> Message:
    """After a failed attempt: again later, with a doubling pause, unless it has failed for a day.

    :param jitter: 0 to 1, takes up to half of the pause away.
    """
    attempts = message.attempts + 1
    if now_ms - message.created_ms > PATIENCE_MS:
        return unmailable(message).changed(attempts=attempts)
    return message.changed(
        attempts=attempts, due_ms=now_ms + BACKOFF.pause_ms(attempts, jitter), is_being_sent=False
    )


def mailed(message: Message, now_ms: int) -> Message:
    """After the mail server has taken it."""
    return unmailable(message).changed(mailed_ms=now_ms)


def unmailable(message: Message) -> Message:
    """With nothing (more) to mail, such as after the mail server has refused it for good."""
    return message.changed(due_ms=None, is_being_sent=False, mail_text="")


def _letter(greeting: str, body: str) -> str:
    return f"{greeting}\n\n{body}\n\nYour Meshmart team\n"


def _order_confirmed(facts: _Facts) -> Text:
    return Text(
        f"Your order {facts['order_id']} is confirmed",
        f"Thank you for your order {facts['order_id']}. "
        f"We have charged {_money(facts)} to your card "
        "and are packing your parcel now. We will write again when it is on its way.",
    )


def _order_cancelled(facts: _Facts) -> Text:
    money_back = "Any amount that was charged to your card or held on it is returned."
    return Text(
        f"Your order {facts['order_id']} was cancelled",
        f"Your order {facts['order_id']} was cancelled. {facts['reason']} "
        f"{_about_money(facts, money_back)}".rstrip(),
    )


def _order_not_placed(facts: _Facts) -> Text:
    money_back = "Your card is not charged, and no amount stays held on it. "
    return Text(
        f"Your order {facts['order_id']} was not placed",
        f"Your order {facts['order_id']} was not placed. {facts['reason']} "
        f"No parcel is sent. {_about_money(facts, money_back)}"
        "You can order again whenever you like.",
    )


def _order_refund_failed(facts: _Facts) -> Text:
    return Text(
        f"Your order {facts['order_id']} is not paid back yet",
        f"We sent a refund of {_money(facts)} for your order {facts['order_id']} to your card, but "
        "the bank did not take it, so the money has not reached you yet. We will pay you back in "
        "another way and write to you about it. You do not need to do anything.",
    )


def _shipment_dispatched(facts: _Facts) -> Text:
    return Text(
        f"Your order {facts['order_id']} is on its way",
        f"The parcel with your order {facts['order_id']} is on its way. "
        f"Its tracking number is {facts['tracking_number']}.",
    )


def _shipment_delivered(facts: _Facts) -> Text:
    return Text(
        f"Your order {facts['order_id']} was delivered",
        f"The parcel with your order {facts['order_id']} was delivered. We hope you like it.",
    )


def _confirm_address(facts: _Facts) -> Text:
    return Text(
        "Please confirm your e-mail address",
        "We have mailed you a link. Open it to confirm that the address is yours. Until then our "
        "mails about your orders wait; what they say is here all the same.",
        "Somebody has opened an account at Meshmart with this e-mail address, or ordered with it "
        "as a guest. If that was you, please confirm that the address is yours:\n\n"
        f"{_link(facts, '/confirm')}\n\n"
        "The link is good for three days. If it was not you, do nothing: until the address is "
        "confirmed, we send no other mail to it.",
    )


def _set_password(facts: _Facts) -> Text:
    return Text(
        "Set a new password",
        "Somebody has asked for a new password for this account, and we have mailed a link with "
        "which it can be set. If that was not you, there is nothing to do.",
        "Somebody has asked for a new password for the account with this e-mail address at "
        "Meshmart. If that was you, set it here:\n\n"
        f"{_link(facts, '/password')}\n\n"
        "The link is good for half an hour and works once. If it was not you, do nothing: nobody "
        "gets in without this mail, and the password stays as it is.",
    )


def _password_changed(_: _Facts) -> Text:
    return Text(
        "Your password was changed",
        "The password of your account was changed. Whoever else is logged in must log in with the "
        "new one within 15 minutes. If that was not you, ask for a new password at once: "
        "“Forgot your password?” is on the page where you log in.",
    )


_CONFIRM_ADDRESS = "confirm-address"
_LINK_KINDS = frozenset({_CONFIRM_ADDRESS, "set-password"})
_TEXTS: Mapping[str, Callable[[_Facts], Text]] = {
    "order-confirmed": _order_confirmed,
    "order-cancelled": _order_cancelled,
    "order-not-placed": _order_not_placed,
    "order-refund-failed": _order_refund_failed,
    "shipment-dispatched": _shipment_dispatched,
    "shipment-delivered": _shipment_delivered,
    _CONFIRM_ADDRESS: _confirm_address,
    "set-password": _set_password,
    "password-changed": _password_changed,
}


def _link(facts: _Facts, path: str) -> str:
    """The link of a mail. Behind the # the code stays in the browser, so no log or trace has it;
    where no script takes it from there, the page asks for it.
    """
    code = facts["code"]
    return f"{facts['shop_url']}{path}#{code}\n\nIf the page asks for a code, it is\n\n{code}"


def _about_money(facts: _Facts, money_back: str) -> str:
    """What becomes of the money: `money_back`, where it is not known to be otherwise. Of a refund
    that has failed another message tells.
    """
    match facts.get("refund"):
        case "failed":
            return ""
        case "disputed":
            return (
                "The charge is disputed at the bank of your card. The bank decides who gets the "
                "money, so we do not pay it back as well. "
            )
        case _:
            return money_back


def _money(facts: _Facts) -> str:
    return str(Money(int(facts["total_cents"]), facts["currency"]))
