"""The texts of messages, and when their mails are sent again."""

from __future__ import annotations

import pytest

from services.common.errors import Kind, ShopError
from services.notification import model
from tests.unit.notification.examples import FACTS, NOW_MS, a_message


@pytest.mark.parametrize(
    ("kind", "news", "said"),
    [
        ("order-confirmed", "is confirmed", ["€ 86.05", "packing"]),
        ("order-cancelled", "was cancelled", ["Your card was declined."]),
        (
            "order-not-placed",
            "was not placed",
            ["card was declined", "Your card is not charged"],
        ),
        ("order-refund-failed", "is not paid back yet", ["€ 86.05", "did not take it"]),
        ("shipment-dispatched", "is on its way", ["MM0123456789NL"]),
        ("shipment-delivered", "was delivered", ["was delivered"]),
    ],
)
def test_each_kind_has_its_text(kind: str, news: str, said: list[str]) -> None:
    text = model.compose(kind, "Ada", FACTS)
    assert text.subject == f"Your order {FACTS['order_id']} {news}"
    assert text.body.startswith("Hello Ada,\n\n")
    assert FACTS["order_id"] in text.body
    for words in said:
        assert words in text.body


@pytest.mark.parametrize(
    ("kind", "promise"),
    [("order-cancelled", "is returned"), ("order-not-placed", "Your card is not charged")],
)
def test_no_message_promises_money_that_the_bank_has(kind: str, promise: str) -> None:
    assert promise in model.compose(kind, "Ada", FACTS).body
    body = model.compose(kind, "Ada", {**FACTS, "refund": "failed"}).body
    assert promise not in body
    assert "Your card was declined." in body
    disputed = model.compose(kind, "Ada", {**FACTS, "refund": "disputed"}).body
    assert promise not in disputed
    assert "The bank decides who gets the money" in disputed


@pytest.mark.parametrize("cents", ["5", "0", "100", "123456"])
def test_money_has_two_decimals(cents: str) -> None:
    text = model.compose("order-confirmed", "Ada", {**FACTS, "total_cents": cents})
    assert f"€ {int(cents) / 100:,.2f} " in text.body


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ShopError) as refused:
        model.compose("order-eaten", "Ada", FACTS)
    assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "unknown-kind")


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("order-confirmed", "order_id"),
        ("order-confirmed", "total_cents"),
        ("order-cancelled", "reason"),
        ("shipment-dispatched", "tracking_number"),
        ("confirm-address", "code"),
        ("set-password", "code"),
    ],
)
def test_a_missing_fact_is_refused(kind: str, fact: str) -> None:
    facts = {name: value for name, value in FACTS.items() if name != fact}
    with pytest.raises(ShopError, match=fact) as refused:
        model.compose(kind, "Ada", facts)
    assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "missing-fact")


@pytest.mark.parametrize("cents", ["", "1.5", "many"])
def test_a_malformed_fact_is_refused(cents: str) -> None:
    with pytest.raises(ShopError) as refused:
        model.compose("order-confirmed", "Ada", {**FACTS, "total_cents": cents})
    assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "malformed-fact")


def test_pauses_double_up_to_a_minute() -> None:
    message = a_message()
    pauses_ms: list[int] = []
    for _ in range(30):
        message = model.postponed(message, NOW_MS, jitter=0.0)
        assert message.due_ms is not None
        pauses_ms.append(message.due_ms - NOW_MS)
    assert pauses_ms[:4] == [1000, 2000, 4000, 8000]
    assert pauses_ms[-1] == model.BACKOFF.longest_ms == 60_000
    assert message.attempts == 30
    spread = model.postponed(message, NOW_MS, jitter=1.0)
    assert spread.due_ms == NOW_MS + 30_000


def test_a_mail_that_fails_for_a_day_is_given_up() -> None:
    day_ms = 24 * 3_600_000
    assert model.postponed(a_message(), NOW_MS + day_ms, jitter=0.0).due_ms is not None
    given_up = model.postponed(a_message(), NOW_MS + day_ms + 1, jitter=0.0)
    assert (given_up.due_ms, given_up.is_being_sent, given_up.mailed_ms) == (None, False, None)


def test_nothing_is_due_after_an_end() -> None:
    assert model.mailed(a_message(), NOW_MS + 5).mailed_ms == NOW_MS + 5
    assert model.mailed(a_message(), NOW_MS).due_ms is None
    refused = model.unmailable(a_message())
    assert (refused.due_ms, refused.mailed_ms) == (None, None)
