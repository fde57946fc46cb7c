"""What an audit finds in the data of a shop, and what it mends."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from services.audit.command import EXIT_DISAGREES, audit
from services.common.clock import now_ms
from services.common.errors import ConfigurationError
from services.local.backup import copy_database
from services.local.programs import SANDBOX
from stand_ins.stripe.model import Dispute
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop

BOARD = "oak-serving-board"
KNIFE = "chef-knife"


@dataclass(frozen=True, slots=True)
class Closed:
    """The data of a shop that was stopped.

    :ivar older: a copy of each database from before the second order, the cancellation and the
        declined card.
    """

    data: Path
    older: Path
    kept: str
    bought_later: str
    cancelled_later: str

    def put_back(self, service: str) -> None:
        """Puts one store back to its older copy."""
        for file in self.data.glob(f"{service}.db*"):
            file.unlink()
        shutil.copy(self.older / f"{service}.db", self.data)

    def change(self, service: str, table: str, column: str, value: str, like: str) -> None:
        """Changes the one document of a service that is like that.

        :param value: an SQL expression.
        """
        self._run(service, f"UPDATE {table} SET {column} = {value} WHERE {column} LIKE ?", like)  # noqa: S608

    def delete(self, service: str, table: str, document_id: str) -> None:
        """Deletes one document of a service."""
        self._run(service, f"DELETE FROM {table} WHERE id LIKE ?", document_id)  # noqa: S608

    def delete_intent(self, order_id: str) -> None:
        """Deletes what Stripe knows of an order's payment."""
        self._run(SANDBOX, "DELETE FROM payment_intents WHERE document LIKE ?", f"%{order_id}%")

    def _run(self, service: str, sql: str, like: str) -> None:
        with closing(sqlite3.connect(self.data / f"{service}.db")) as connection, connection:
            assert connection.execute(sql, (like,)).rowcount == 1


# Makes something wrong, and returns what an audit says of it.
Plant = Callable[[Closed], str]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Closed:
    folder = tmp_path_factory.mktemp("audited")
    with Shop(folder) as shop:
        (folder / "older").mkdir()
        kept, later, cancelled = asyncio.run(_traded(shop, folder / "older"))
    return Closed(shop.data, folder / "older", kept, later, cancelled)


async def _traded(shop: Shop, older: Path) -> tuple[str, str, str]:
    async with aiohttp.ClientSession() as http, open_books(shop) as books:
        customer = await Customer.register(Client(http, shop.url))
        kept = await customer.bought({BOARD: 1})
        cancelled = await customer.bought({KNIFE: 2})
        await books.settled()
        for file in shop.data.glob("*.db"):
            if file.stem != SANDBOX:
                copy_database(file, older / file.name)
        later = await customer.bought({BOARD: 3})
        assert (await customer.cancel(cancelled)).status == 200
        declined = await customer.place({BOARD: 1}, payment_method="pm_card_chargeDeclined")
        assert declined.status == 402
        await books.settled()
    return kept, later, cancelled


@pytest.fixture
def closed(original: Closed, tmp_path: Path) -> Closed:
    data = tmp_path / "data"
    shutil.copytree(original.data, data)
    return replace(original, data=data)


@pytest.fixture(autouse=True)
def _on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "STRIPE_API_KEY", "STRIPE_API_BASE"):
        monkeypatch.delenv(name, raising=False)


def audited(closed: Closed, *, mend: bool = False) -> tuple[int, str]:
    """The status and the lines of an audit."""
    lines: list[str] = []
    status = audit(closed.data, lines.append, mend=mend)
    return status, "\n".join(lines)


def test_nothing_is_found_where_nothing_is_wrong(closed: Closed) -> None:
    status, said = audited(closed)

    assert (status, said) == (
        0,
        "4 orders, 4 reservations, 4 payments, 4 orders at Stripe, 3 parcels and 4 messages: "
        "nothing disagrees.",
    )


def _rolled_back(service: str, finding: str, *, is_cancelled: bool = False) -> Plant:
    """Puts one store back, and returns what is then found of the later order, or of the cancelled
    one.
    """

    def plant(closed: Closed) -> str:
        closed.put_back(service)
        return f"{closed.cancelled_later if is_cancelled else closed.bought_later}: {finding}"

    plant.__name__ = f"{service} rolled back, {'cancelled' if is_cancelled else 'bought'}"
    return plant


def _parcel_missing(closed: Closed) -> str:
    closed.delete("shipping", "shipments", closed.kept)
    return f"{closed.kept}: .* its shipment is missing"


def _intent_without_payment(closed: Closed) -> str:
    closed.delete("payment", "payments", closed.kept)
    return f"{closed.kept}: .* its payment is missing"


def _bank_sends_refund_back(closed: Closed) -> None:
    failed = "json_set(document, '$.then', 'failed', '$.then_at', 0)"
    closed.change(SANDBOX, "refunds", "document", failed, "%")


def _shop_knows_of_failed_refund(closed: Closed) -> None:
    _bank_sends_refund_back(closed)
    known = "json_set(body, '$.state', 'refund_failed', '$.refund_look_ms', null)"
    closed.change("payment", "payments", "body", known, f"%{closed.cancelled_later}%")


def _refund_failed_unnoticed(closed: Closed) -> str:
    _bank_sends_refund_back(closed)
    return f"{closed.cancelled_later}: .* cents charged, 0 refunded"


def _refund_failed(closed: Closed) -> str:
    _shop_knows_of_failed_refund(closed)
    return rf"{closed.cancelled_later}: .* its refund failed: \d+ cents are to be paid back"


def _failed_refund_not_told(closed: Closed) -> str:
    _shop_knows_of_failed_refund(closed)
    unwatched = "json_set(body, '$.refund_look_ms', null)"
    closed.change("order", "orders", "body", unwatched, f"%{closed.cancelled_later}%")
    return f"{closed.cancelled_later}: .* its customer does not know that the refund failed"


def _intent_of_an_unknown_order(closed: Closed) -> str:
    renamed = f"REPLACE(document, '{closed.kept}', 'ord_unknown')"
    closed.change(SANDBOX, "payment_intents", "document", renamed, f"%{closed.kept}%")
    return "ord_unknown: there is a payment intent, but no such order"


def _charge_lost(closed: Closed) -> str:
    closed.delete_intent(closed.kept)
    return f"{closed.kept}: .* nothing was charged, not once \\d+ cents"


def _voided_intent_lost(closed: Closed) -> str:
    closed.change(
        "payment",
        "payments",
        "body",
        "json_set(body, '$.state', 'voided')",
        f"%{closed.cancelled_later}%",
    )
    closed.delete_intent(closed.cancelled_later)
    return f"{closed.cancelled_later}: .* Stripe does not know its payment intent pi_"


def _charge_disputed(closed: Closed) -> None:
    with closing(sqlite3.connect(closed.data / f"{SANDBOX}.db")) as books, books:
        sql = "SELECT payment_intent FROM orders WHERE id = ?"
        (intent_id,) = books.execute(sql, (closed.bought_later,)).fetchone()
        dispute = Dispute("dp_1", 1, 8980, "eur", "ch_1", intent_id)
        books.execute(
            "INSERT INTO disputes (id, payment_intent, created, document) VALUES (?, ?, ?, ?)",
            (dispute.id, intent_id, 1, json.dumps(asdict(dispute))),
        )


def _stock_sold_twice(closed: Closed) -> str:
    again = "json_set(body, '$.available', body ->> 'available' + 3, '$.sold', body ->> 'sold' - 3)"
    closed.change("inventory", "stock", "body", again, f'%"id":"{BOARD}"%')
    return f"{BOARD}: 1 sold, but orders have bought 4"


def _account_lost(closed: Closed) -> str:
    closed.delete("user", "users", "%")
    return f"{closed.kept}: its customer, .*, has no account"


def _order_stuck(closed: Closed) -> str:
    working = (
        "json_set(body, '$.state', 'working', '$.step', 'dispatch', '$.created_ms', 0, "
        "'$.history', json('[]'))"
    )
    closed.change("order", "orders", "body", working, f"%{closed.kept}%")
    return f"{closed.kept}: it is still working at step dispatch"


@pytest.mark.parametrize(
    "plant",
    [
        _rolled_back("inventory", ".* its reservation is missing"),
        _rolled_back("inventory", ".* its reservation is sold", is_cancelled=True),
        _rolled_back("payment", ".* its payment is missing"),
        _rolled_back("payment", ".* its payment is captured", is_cancelled=True),
        _rolled_back("shipping", ".* its shipment is missing"),
        _rolled_back("shipping", ".* its shipment is dispatched", is_cancelled=True),
        _rolled_back("notification", ".* its messages are "),
        _parcel_missing,
        _intent_without_payment,
    ],
)
async def test_what_a_store_has_lost_is_found_and_mended(plant: Plant, closed: Closed) -> None:
    sentence = plant(closed)

    status, said = await asyncio.to_thread(audited, closed)
    assert status == EXIT_DISAGREES
    assert re.search(sentence, said), said

    status, said = await asyncio.to_thread(audited, closed, mend=True)
    assert status == 0, said
    assert f"mended: {sentence.partition(':')[0]}" in said


@pytest.mark.parametrize(
    ("plant", "advice"),
    [
        (
            _rolled_back("order", "there is a reservation, a payment, .* but no such order"),
            "no such order: find out whether anything was sent",
        ),
        (_intent_of_an_unknown_order, "no such order"),
        (_refund_failed_unnoticed, "open the shop, which asks Stripe again"),
        (_refund_failed, "ask the customer for a bank account"),
        (_failed_refund_not_told, "write to the customer"),
        (_account_lost, "no other store knows the account"),
        (_charge_lost, "look for the payment at Stripe"),
        (_voided_intent_lost, "look for the payment at Stripe"),
        (_stock_sold_twice, "count what is there"),
        (_order_stuck, "open the shop, which goes on with it"),
    ],
)
def test_what_a_person_must_look_at_is_left_as_it_is(
    plant: Plant, advice: str, closed: Closed
) -> None:
    sentence = plant(closed)

    status, said = audited(closed, mend=True)

    assert status == EXIT_DISAGREES
    assert re.search(sentence, said), said
    subject = re.escape(sentence.partition(":")[0])
    assert re.search(f"not mended: {subject}: .*{advice}", said), said
    assert "once the shop is open" not in said, "no message was lost"


def test_mending_is_not_offered_where_there_is_nothing_to_repeat(closed: Closed) -> None:
    _refund_failed(closed)

    _, said = audited(closed)

    assert said.endswith(": 1 disagreement.")
    closed.put_back("shipping")
    _, said = audited(closed)
    assert said.endswith(" disagreements. --mend mends what can be mended safely.")


def test_lost_messages_are_announced(closed: Closed) -> None:
    closed.put_back("notification")

    _, said = audited(closed, mend=True)

    assert re.search(r"\d+ messages? to send once the shop is open", said), said


def test_a_dispute_that_is_not_decided_is_told_and_no_finding(closed: Closed) -> None:
    _charge_disputed(closed)

    status, said = audited(closed)

    assert status == 0, said
    told = rf"{closed.bought_later}: \d+ cents are disputed \(dp_1\): answer the dispute at Stripe"
    assert re.search(told, said), said


def test_what_a_person_has_paid_back_another_way_is_no_finding(closed: Closed) -> None:
    _shop_knows_of_failed_refund(closed)
    noted = "json_set(document, '$.metadata.paid_back', 'bank transfer of 29 November')"
    closed.change(SANDBOX, "payment_intents", "document", noted, f"%{closed.cancelled_later}%")

    status, said = audited(closed)

    assert status == 0, said


@pytest.mark.parametrize("service", ["payment", "user", "auth", "product", SANDBOX])
def test_a_store_that_is_missing_or_damaged_is_named(closed: Closed, service: str) -> None:
    file = closed.data / f"{service}.db"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match=rf"{service}\.db cannot be read"):
        audited(closed)
    file.unlink()
    with pytest.raises(ConfigurationError, match=rf"{service}\.db is missing"):
        audited(closed)
    assert not file.exists()


def test_orders_under_way_are_mended_before_a_closed_shop_opens(closed: Closed) -> None:
    """Nobody has compared them yet, and others must not buy meanwhile what is theirs."""
    closed.put_back("inventory")
    under_way = (
        "json_set(body, '$.state', 'working', '$.step', 'dispatch', "
        f"'$.open_since_ms', {now_ms()}, '$.created_ms', {now_ms()})"
    )
    closed.change("order", "orders", "body", under_way, f"%{closed.bought_later}%")

    status, said = audited(closed, mend=True)

    assert status == 0, said
    assert f"mended: {closed.bought_later}" not in said
    with closing(sqlite3.connect(closed.data / "inventory.db")) as connection:
        sql = "SELECT body ->> 'state' FROM reservations WHERE id = ?"
        assert connection.execute(sql, (closed.bought_later,)).fetchone() == ("sold",)
