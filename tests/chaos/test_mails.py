"""The mail sink, as notification's own mailer finds it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from services.notification.clients import Mailer
from services.notification.model import Message, compose
from services.notification.settings import NotificationSettings
from tests.chaos.mails import Mail, MailSink

_ORDER_ID = "ord_" + "abcdefgh" * 3
_FACTS = {
    "order_id": _ORDER_ID,
    "total_cents": "1234",
    "currency": "EUR",
    "reason": "You asked us to cancel it.",
    "tracking_number": "MM1",
}
_KINDS = (
    "order-confirmed",
    "order-cancelled",
    "order-not-placed",
    "shipment-dispatched",
    "shipment-delivered",
)


@pytest.fixture
async def sink() -> AsyncGenerator[MailSink]:
    async with MailSink() as sink:
        yield sink


async def test_each_kind_of_mail_is_known(sink: MailSink) -> None:
    mailer = _mailer(sink)

    for kind in _KINDS:
        await mailer.send(_message(kind, event_id=f"{_ORDER_ID}:{kind}"))

    assert sink.mails() == {
        Mail(_ORDER_ID, kind, "ada@example.com", f"<{_ORDER_ID}.{kind}@meshmart.example>")
        for kind in _KINDS
    }
    assert sink.repeats == 0


async def test_a_mail_that_comes_again_is_one_mail_repeated(sink: MailSink) -> None:
    mailer = _mailer(sink)

    for event_id in ("a", "a", "b", "a"):
        await mailer.send(_message("order-confirmed", event_id))

    assert {mail.message_id for mail in sink.mails()} == {
        "<a@meshmart.example>",
        "<b@meshmart.example>",
    }
    assert sink.repeats == 2


def _mailer(sink: MailSink) -> Mailer:
    return Mailer(
        NotificationSettings.model_validate(
            {name.lower(): value for name, value in sink.environment().items()}
        )
    )


def _message(kind: str, event_id: str) -> Message:
    text = compose(kind, "Ada Lovelace", _FACTS)
    return Message(
        id=event_id,
        user_id="usr_1",
        name="Ada Lovelace",
        email="ada@example.com",
        kind=kind,
        order_id=_ORDER_ID,
        subject=text.subject,
        text=text.body,
        created_ms=0,
    )
