"""The workload: what it asks for, how it behaves, and that a shop without faults serves it well."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.order.model import order_id_for
from tests.chaos.checker import Evidence, details_of, violations
from tests.chaos.checkout import SCARCE, Behaviour, Checkout, initial_stock
from tests.chaos.history import NO_ANSWER, Action, CheckoutHistory, History
from tests.chaos.mails import MailSink
from tests.chaos.workload import Workload
from tests.testkit.books import open_books
from tests.testkit.shop import Shop

_CHECKOUTS = 150
_USER = "usr_1"

Answer = Callable[[web.Request], web.Response]


def test_a_seed_and_a_number_decide_a_checkout() -> None:
    checkouts = [Checkout.of("1", number) for number in range(500)]

    assert checkouts == [Checkout.of("1", number) for number in range(500)]
    assert checkouts != [Checkout.of("2", number) for number in range(500)]
    assert {checkout.behaviour for checkout in checkouts} == set(Behaviour)
    assert any(checkout.decline_code for checkout in checkouts)
    assert not all(checkout.is_possible for checkout in checkouts)
    wanted: Counter[str] = Counter()
    for checkout in checkouts:
        wanted.update(checkout.items)
    stock = initial_stock(500)
    assert {product for product in stock if wanted[product] > stock[product]} == set(SCARCE)


class FakeShop:
    """Answers requests for orders as it is told, and keeps what it was asked.

    :ivar answers: what comes next for each kind of request; the last one stays.
    :ivar token: the only access token that is valid.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.placed: list[tuple[str, bytes]] = []
        self.asked: Counter[str] = Counter()
        self.token = _token("first")
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Any request."""
        what = f"{request.method} {request.path.rpartition('/')[2].partition('_')[0]}"
        self.asked[what] += 1
        if request.path.startswith("/api/auth/"):
            tokens = {"access_token": self.token, "refresh_token": "r"}
            return web.json_response(tokens, status=201 if what == "POST register" else 200)
        if request.headers["authorization"] != f"Bearer {self.token}":
            return web.Response(status=401)
        if what == "POST orders":
            self.placed.append((request.headers["idempotency-key"], await request.read()))
        answers = self.answers[what]
        return (answers.pop(0) if len(answers) > 1 else answers[0])(request)

    async def visited(self, behaviour: Behaviour) -> CheckoutHistory:
        """What a customer of that behaviour was told."""
        seed = next(
            seed
            for seed in map(str, range(1000))
            if Checkout.of(seed, 0).behaviour is behaviour and Checkout.of(seed, 0).is_possible
        )
        history = History(seed)
        numbers: list[int] = []
        await Workload(
            self.url, clients=1, checkouts=1, history=history, on_begin=numbers.append
        ).run()
        assert numbers == [0]
        [own] = history
        assert own.order_id == order_id_for(_USER, history.checkout_of(own).key)
        return own


@pytest.fixture
async def fake() -> AsyncGenerator[FakeShop]:
    shop = FakeShop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", shop.handle)
    async with TestServer(app) as server:
        shop.url = str(server.make_url("")).rstrip("/")
        yield shop


async def test_an_outage_is_answered_with_the_same_request(fake: FakeShop) -> None:
    fake.answers = {"POST orders": [_problem(503), _problem(502), _order(201, "confirmed")]}

    own = await fake.visited(Behaviour.PLAIN)

    assert [op.status for op in own.ops] == [503, 502, 201]
    assert len(fake.placed) == 3
    assert len(set(fake.placed)) == 1


async def test_enough_is_enough(fake: FakeShop) -> None:
    fake.answers = {"POST orders": [_problem(503)]}
    began = time.monotonic()

    own = await fake.visited(Behaviour.LOOKS)

    assert {(op.action, op.status) for op in own.ops} == {(Action.PLACE, 503)}
    assert len(own.ops) <= 6
    assert time.monotonic() - began < 10


async def test_a_long_retry_after_is_not_waited_for(fake: FakeShop) -> None:
    fake.answers = {"POST orders": [_problem(503, retry_after_seconds=60)]}

    assert len((await fake.visited(Behaviour.PLAIN)).ops) == 1


async def test_giving_up_is_the_shops_decision(fake: FakeShop) -> None:
    gave_up = _problem(503, "checkout-unavailable", order_id="ord_1")
    fake.answers = {"POST orders": [gave_up]}

    [op] = (await fake.visited(Behaviour.PLAIN)).ops

    assert (op.order_id, op.reason) == ("ord_1", "checkout-unavailable")


async def test_an_accepted_order_is_watched(fake: FakeShop) -> None:
    fake.answers = {
        "POST orders": [_order(202, "working")],
        "GET ord": [_order(200, "working"), _problem(503), _order(200, "confirmed")],
    }

    own = await fake.visited(Behaviour.PLAIN)

    assert [op.status for op in own.ops] == [202, 200, 503, 200]
    assert [op.state for op in own.ops] == ["working", "working", None, "confirmed"]


async def test_the_impatient_repeat(fake: FakeShop) -> None:
    fake.answers = {"POST orders": [_order(201, "confirmed")]}
    fake.answers["POST orders"].insert(0, _breaking_off)

    own = await fake.visited(Behaviour.IMPATIENT)

    statuses = [op.status for op in own.ops]
    assert (statuses[0], statuses[-1]) == (NO_ANSWER, 201)
    assert len(set(fake.placed)) == 1


async def test_the_doubled_come_twice_under_one_key(fake: FakeShop) -> None:
    fake.answers = {"POST orders": [_order(201, "confirmed")]}

    own = await fake.visited(Behaviour.DOUBLED)

    assert [op.status for op in own.ops] == [201, 201]
    assert len(set(fake.placed)) == 1


async def test_a_key_is_reused_for_something_else(fake: FakeShop) -> None:
    reused = _problem(422, "idempotency-key-reused")
    fake.answers = {"POST orders": [_order(201, "confirmed"), reused]}

    own = await fake.visited(Behaviour.REUSES_KEY)

    assert [op.action for op in own.ops] == [Action.PLACE, Action.PLACE_OTHER]
    assert len({key for key, _ in fake.placed}) == 1
    assert len({body for _, body in fake.placed}) == 2


async def test_what_is_confirmed_is_cancelled(fake: FakeShop) -> None:
    fake.answers = {
        "POST orders": [_order(201, "confirmed")],
        "POST cancel": [_problem(503), _order(202, "cancelling")],
        "GET ord": [_order(200, "cancelled")],
    }

    own = await fake.visited(Behaviour.CANCELS_TWICE)

    assert Counter(op.action for op in own.ops) == {
        Action.PLACE: 1,
        Action.CANCEL: 3,
        Action.LOOK: 2,
    }


async def test_a_lapsed_token_is_renewed(fake: FakeShop) -> None:
    def lapsed(request: web.Request) -> web.Response:
        fake.token = _token("second")
        return web.Response(status=401)

    fake.answers = {"POST orders": [lapsed, _order(201, "confirmed")]}

    own = await fake.visited(Behaviour.DOUBLED)

    assert [op.status for op in own.ops] == [201, 201]
    assert fake.asked["POST refresh"] == 1


@pytest.mark.timeout(300)
async def test_a_shop_without_faults_has_no_violations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in ("books", "ledger"):  # so that there are several pages
        monkeypatch.setattr(f"services.audit.{reader}._PAGE", 40)
    history = History("crowd")
    async with (
        MailSink() as sink,
        Shop(
            tmp_path,
            *("--replicas", "order=2,inventory=2,notification=2"),
            environment={"SHIPPING_STEP_SECONDS": "1", **sink.environment()},
            stock=initial_stock(_CHECKOUTS),
        ) as shop,
    ):
        numbers: list[int] = []
        await Workload(
            shop.url,
            clients=8,
            checkouts=_CHECKOUTS,
            history=history,
            on_begin=numbers.append,
            codes=sink.codes,
        ).run()
        async with open_books(shop) as books:
            assert await books.rest(within_seconds=30) is None
            evidence = Evidence(await books.read(), history, books.initial_stock(), sink.mails())

    assert sorted(numbers) == list(range(_CHECKOUTS))
    found = list(violations(evidence))
    assert not found, "\n".join([*map(str, found), details_of(evidence, found[0].subject)])
    assert {NO_ANSWER, 200, 201, 402, 409, 422} == set(history.statuses())
    assert sink.repeats == 0


def _token(name: str) -> str:
    claims = base64.urlsafe_b64encode(orjson.dumps({"sub": _USER, "name": name}))
    return f"header.{claims.decode()}.signature"


def _order(status: int, state: str) -> Answer:
    body = {"order_id": "ord_1", "state": state, "reason": None, "total_cents": 100}
    return lambda request: web.json_response(body, status=status)


def _problem(
    status: int, code: str = "away", retry_after_seconds: int = 0, order_id: str | None = None
) -> Answer:
    body = {"code": code, "fields": {"order_id": order_id} if order_id else {}}
    headers = {"retry-after": str(retry_after_seconds)} if retry_after_seconds else {}
    return lambda request: web.json_response(body, status=status, headers=headers)


def _breaking_off(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
