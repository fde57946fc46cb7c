"""The HTTP API of the order service: statuses, shapes, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson
import pytest
from starlette.types import ASGIApp

from services.common.dependency_injection import provide
from services.common.errors import Kind
from services.common.serving.host import Host, hosting
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from services.order import api
from services.order.model import Step
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.order.examples import ADDRESS, error
from tests.unit.order.harness import OrderHarness, OrderProcess
from tests.unit.tokens import headers_of, verifier

BODY: Mapping[str, Any] = {
    "items": [{"product_id": "oak-board", "quantity": 2}, {"product_id": "bowl", "quantity": 1}],
    "address": ADDRESS.model_dump(),
    "payment_method": "pm_card_visa",
}


class OrderClient:
    """A program that uses the API, in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def place(
        self, *, body: object = BODY, key: str | None = "key-1", user_id: str | None = "usr_ada"
    ) -> AsgiAnswer:
        """Places an order."""
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["idempotency-key"] = key
        return await self._ask("POST", "", user_id, headers, orjson.dumps(body))

    async def get(self, path: str, user_id: str | None = "usr_ada") -> AsgiAnswer:
        """Reads something below /api/orders."""
        return await self._ask("GET", path, user_id)

    async def cancel(self, order_id: str, user_id: str | None = "usr_ada") -> AsgiAnswer:
        """Cancels an order."""
        return await self._ask("POST", f"/{order_id}/cancel", user_id)

    async def _ask(
        self,
        method: str,
        path: str,
        user_id: str | None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> AsgiAnswer:
        token: Mapping[str, str] = headers_of(user_id) if user_id is not None else {}
        return await ask(
            self._app,
            method,
            f"/api/orders{path}",
            headers={**(headers or {}), **token},
            body=body,
        )


@pytest.fixture
def answer_seconds() -> float:
    return 5.0


takes_long = pytest.mark.parametrize("answer_seconds", [0.5])


@pytest.fixture
def process(harness: OrderHarness, answer_seconds: float) -> OrderProcess:
    return harness.process(order_answer_seconds=answer_seconds)


@pytest.fixture
async def client(process: OrderProcess) -> AsyncGenerator[OrderClient]:
    async def wire(host: Host) -> None:
        host.serve_http(api.router, process.orders)
        host.app_setup(lambda app: provide(app, verifier()))

    topology = load_topology()
    async with hosting("order", wire, topology=topology, process=ProcessSettings()) as host:
        yield OrderClient(host.app())


async def test_a_confirmed_order_is_created(client: OrderClient) -> None:
    answer = await client.place()
    assert answer.status == 201
    order = answer.json()
    assert order["state"] == "confirmed"
    assert order["reason"] is None
    assert (order["items_cents"], order["shipping_cents"], order["total_cents"]) == (
        8190,
        495,
        8685,
    )
    assert order["lines"][0] == {
        "product_id": "oak-board",
        "name": "Oak Serving Board",
        "quantity": 2,
        "unit_price_cents": 3495,
        "total_cents": 6990,
    }
    assert order["history"][0]["what"] == "placed"
    assert not {"fingerprint", "owner", "trace", "contact"} & set(order), "for the shop only"


async def test_the_same_line_twice_is_one_line(client: OrderClient) -> None:
    twice = [{"product_id": "bowl", "quantity": 1}, {"product_id": "bowl", "quantity": 2}]
    (line,) = (await client.place(body={**BODY, "items": twice})).json()["lines"]
    assert line["quantity"] == 3


@pytest.mark.parametrize(
    ("step", "kind", "status"),
    [
        (Step.RESERVE, Kind.CONFLICT, 409),
        (Step.AUTHORIZE, Kind.DECLINED, 402),
        (Step.AUTHORIZE, Kind.INVALID, 422),
    ],
)
async def test_a_refused_order_is_the_error_that_refused_it(
    client: OrderClient, harness: OrderHarness, step: Step, kind: Kind, status: int
) -> None:
    harness.around.fail(step, error(kind, "the-reason"))
    answer = await client.place()
    assert answer.status == status
    problem = answer.json()
    assert (problem["code"], problem["detail"]) == ("the-reason", "As the test says.")
    assert problem["fields"]["product_id"] == "bowl"
    shown = await client.get(f"/{problem['fields']['order_id']}")
    assert (shown.status, shown.json()["state"]) == (200, "cancelled")
    assert shown.json()["reason"] == {"code": "the-reason", "detail": "As the test says."}


async def test_an_attempt_is_listed_apart_from_orders(
    client: OrderClient, harness: OrderHarness
) -> None:
    harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "card-declined"))
    attempt_id = (await client.place()).json()["fields"]["order_id"]
    order_id = (await client.place(key="key-2")).json()["order_id"]
    assert (await client.cancel(order_id)).json()["is_attempt"] is False
    listed = {
        attempts: [
            (order["order_id"], order["is_attempt"])
            for order in (await client.get(f"?attempts={attempts}")).json()["items"]
        ]
        for attempts in ("true", "false")
    }
    assert listed == {"true": [(attempt_id, True)], "false": [(order_id, False)]}
    assert len((await client.get("")).json()["items"]) == 2
    (found,) = (await client.get(f"?q={attempt_id[-6:].upper()}")).json()["items"]
    assert found["order_id"] == attempt_id
    assert (await client.get("?q=submarine")).json() == {"items": [], "next_cursor": None}


@takes_long
async def test_an_order_that_takes_long_is_accepted(
    client: OrderClient, harness: OrderHarness, process: OrderProcess
) -> None:
    held = harness.around.hold(Step.CAPTURE)
    answer = await client.place()
    assert (answer.status, answer.json()["state"]) == (202, "working")
    held.set()
    order_id = answer.json()["order_id"]
    await harness.finished(order_id)
    assert (await client.get(f"/{order_id}")).json()["state"] == "confirmed"


async def test_the_same_request_again_has_the_same_answer(client: OrderClient) -> None:
    assert (await client.place()).json() == (await client.place()).json()


async def test_another_body_under_the_same_key_is_refused(client: OrderClient) -> None:
    await client.place()
    answer = await client.place(body={**BODY, "payment_method": "pm_card_mastercard"})
    assert (answer.status, answer.json()["code"]) == (422, "idempotency-key-reused")


def changed(**changes: object) -> dict[str, object]:
    return {**BODY, **changes}


@pytest.mark.parametrize(
    "body",
    [
        changed(items=[]),
        changed(items=[{"product_id": "bowl", "quantity": 0}]),
        changed(items=[{"product_id": "bowl", "quantity": -1}]),
        changed(items=[{"product_id": "bowl", "quantity": 100}]),
        changed(items=[{"product_id": "bowl", "quantity": 1.5}]),
        changed(items=[{"product_id": "bowl", "quantity": "1"}]),
        changed(items=[{"product_id": "bowl", "quantity": True}]),
        changed(items=[{"product_id": "../bowl", "quantity": 1}]),
        changed(items=[{"product_id": "bowl", "quantity": 1, "unit_price_cents": 1}]),
        changed(items=[{"product_id": "bowl", "quantity": 1}] * 51),
        changed(payment_method="4242424242424242"),
        changed(payment_method="pm_card_visa\n"),
        changed(shipping="teleport"),
        changed(address={**ADDRESS.model_dump(), "country": "Netherlands"}),
        changed(address={**ADDRESS.model_dump(), "country": "ZZ"}),
        changed(address={**ADDRESS.model_dump(), "postal_code": "99999999"}),
        changed(address={**ADDRESS.model_dump(), "street": "a\nb"}),
        changed(total_cents=1),
        {},
        [],
    ],
)
async def test_bad_bodies_are_refused(
    client: OrderClient, harness: OrderHarness, body: object
) -> None:
    answer = await client.place(body=body)
    assert (answer.status, answer.json()["code"]) == (422, "invalid-request")
    assert harness.around.asked == []


@pytest.mark.parametrize("product_id", ["sword", "a--b", "bowl-"])
async def test_an_id_that_no_product_has_is_named(client: OrderClient, product_id: str) -> None:
    body = {**BODY, "items": [{"product_id": product_id, "quantity": 1}]}
    answer = await client.place(body=body)
    assert (answer.status, answer.json()["code"]) == (422, "unknown-product")


@pytest.mark.parametrize("key", [None, "", "with space", "x" * 256, "\x7f"])
async def test_a_proper_key_is_needed(client: OrderClient, key: str | None) -> None:
    assert (await client.place(key=key)).status == 422


async def test_too_many_of_one_product_over_several_lines_are_ordered_as_asked(
    client: OrderClient,
) -> None:
    lines = [{"product_id": "bowl", "quantity": 99}] * 3
    (line,) = (await client.place(body=changed(items=lines))).json()["lines"]
    assert line["quantity"] == 297


async def test_an_order_is_cancelled(client: OrderClient) -> None:
    order_id = (await client.place()).json()["order_id"]
    answer = await client.cancel(order_id)
    assert (answer.status, answer.json()["state"]) == (200, "cancelled")
    assert answer.json()["reason"]["code"] == "cancelled-by-customer"


@takes_long
async def test_the_key_of_an_order_that_was_cancelled_creates_nothing(client: OrderClient) -> None:
    placed = await client.place()
    order_id = placed.json()["order_id"]
    await client.cancel(order_id)
    repeated = await client.place()
    assert (placed.status, repeated.status) == (201, 200)
    assert (repeated.json()["order_id"], repeated.json()["state"]) == (order_id, "cancelled")


async def test_a_cancellation_that_takes_long_is_accepted(
    client: OrderClient, harness: OrderHarness
) -> None:
    order_id = (await client.place()).json()["order_id"]
    await harness.finished(order_id)
    held = harness.around.hold(Step.REFUND)
    answer = await client.cancel(order_id)
    assert (answer.status, answer.json()["state"]) == (202, "cancelling")
    held.set()
    await harness.finished(order_id)


async def test_a_parcel_under_way_cannot_be_cancelled(
    client: OrderClient, harness: OrderHarness
) -> None:
    order_id = (await client.place()).json()["order_id"]
    harness.around.fail(Step.RECALL, error(Kind.CONFLICT, "shipment-under-way"))
    answer = await client.cancel(order_id)
    assert (answer.status, answer.json()["code"]) == (409, "shipment-under-way")


async def test_nobody_sees_or_cancels_the_orders_of_others(client: OrderClient) -> None:
    order_id = (await client.place()).json()["order_id"]
    assert (await client.get(f"/{order_id}", "usr_eve")).status == 404
    assert (await client.cancel(order_id, "usr_eve")).status == 404
    assert (await client.get("", "usr_eve")).json() == {"items": [], "next_cursor": None}
    (mine,) = (await client.get("")).json()["items"]
    assert mine["order_id"] == order_id


async def test_everything_needs_a_token(client: OrderClient) -> None:
    answers = [
        await client.place(user_id=None),
        await client.get("", None),
        await client.get("/ord_" + "a" * 24, None),
        await client.cancel("ord_" + "a" * 24, None),
    ]
    assert [answer.status for answer in answers] == [401] * 4
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


@pytest.mark.parametrize("order_id", ["x", "ord_1", "ord_" + "A" * 24, "ord_" + "a" * 25])
async def test_ids_of_the_wrong_form_are_refused(client: OrderClient, order_id: str) -> None:
    assert (await client.get(f"/{order_id}")).status == 422


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "cursor=nonsense", "attempts=x", f"q={'x' * 101}"]
)
async def test_bad_paging_is_refused(client: OrderClient, query: str) -> None:
    assert (await client.get(f"?{query}")).status == 422
