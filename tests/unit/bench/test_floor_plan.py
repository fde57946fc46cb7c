"""The floor makes the calls that the shop has made, in their order, with messages as large."""

from __future__ import annotations

import pytest

from services.common.call_record import Call, Served
from services.common.topology import load_topology
from tests.bench.floor.plan import (
    CallName,
    Hop,
    Names,
    Noted,
    Plan,
    Sizes,
    journey_hop,
    stages_of,
    summed_up,
)
from tests.bench.noting import Note

FRONTEND, PRODUCT, PAYMENT, SANDBOX, ORDER = 1, 2, 3, 4, 5
NAMES = Names(
    load_topology(),
    services={
        FRONTEND: "frontend",
        PRODUCT: "product",
        PAYMENT: "payment",
        SANDBOX: "stripe_sandbox",
        ORDER: "order",
    },
    ports={3004: "product", 8090: "stripe_sandbox", 3007: "order"},
)
LIST = CallName("frontend", "product", "GET /api/products")
STOCK = CallName("product", "inventory", "InventoryService/GetStock")
GET_STOCK = "/meshmart.inventory.v1.InventoryService/GetStock"
EDGE = Sizes(0, 27_000)


def call(callee: str, operation: str, start: float, ms: float, *calls: Call) -> Call:
    return Call(callee, operation, "v1", callee, ms, "ok", calls, start)


def noted(*times: int, **writes: tuple[int, ...]) -> Noted:
    lists, stocks = times or (1, 1)
    return Noted(
        calls={LIST: lists, STOCK: stocks},
        sizes={LIST: Sizes(0, 2744), STOCK: Sizes(154, 202)},
        writes=writes,
    )


def shape(hop: Hop) -> list[object]:
    return [hop.service, *[[shape(each) for each in stage] for stage in hop.stages]]


def test_messages_are_counted_and_measured_for_each_call() -> None:
    url = "GET http://127.0.0.1:3004/api/products?category=desk"
    notes = [
        note
        for size in (100, 200)
        for note in (
            Note(pid=FRONTEND, kind="request", target=url, size_bytes=0),
            Note(pid=FRONTEND, kind="answer", target=url, size_bytes=size),
            Note(pid=PRODUCT, kind="request", target=GET_STOCK, size_bytes=10),
            Note(pid=PRODUCT, kind="answer", target=GET_STOCK, size_bytes=20),
            Note(pid=ORDER, kind="write", target="INSERT", size_bytes=size),
        )
    ]
    found = summed_up(notes, NAMES, 2)
    assert found.calls == {LIST: 1, STOCK: 1}
    assert found.sizes == {LIST: Sizes(0, 150), STOCK: Sizes(10, 20)}
    assert found.writes == {"order": (150,)}


def test_the_path_of_a_request_becomes_that_of_its_route() -> None:
    target = "GET http://127.0.0.1:3004/api/products/oak-desk"
    note = Note(pid=FRONTEND, kind="answer", target=target, size_bytes=1)
    assert NAMES.call(note) == CallName("frontend", "product", "GET /api/products/{product_id}")


def test_a_request_that_no_route_takes_is_told() -> None:
    note = Note(pid=FRONTEND, kind="answer", target="GET http://x:3004/nothing", size_bytes=1)
    with pytest.raises(ValueError, match="product has no route GET /nothing"):
        NAMES.call(note)


def test_what_happens_by_the_clock_and_in_the_sandbox_is_left_out() -> None:
    notes = [
        Note(pid=PRODUCT, kind="request", target=GET_STOCK, size_bytes=10),
        Note(pid=PRODUCT, kind="answer", target=GET_STOCK, size_bytes=20),
        *[Note(pid=SANDBOX, kind="write", target="INSERT", size_bytes=5)] * 5,
    ]
    found = summed_up(notes, NAMES, 5)
    assert not found.calls
    assert not found.writes


def test_the_calls_of_the_record_are_nested_as_they_were() -> None:
    served = Served("frontend", "v1", "f", 9.0, (
        call("product", "GET /api/products", 1.0, 3.0,
             call("inventory", "InventoryService/GetStock", 1.5, 1.0)),
    ))  # fmt: skip
    hop = journey_hop("home", "GET /", served, noted(), EDGE)
    assert shape(hop) == ["frontend", [["product", [["inventory"]]]]]
    assert [each.answer_bytes for each in hop.walk()] == [27_000, 2744, 202]
    assert [each.protocol for each in hop.walk()] == ["http", "http", "grpc"]
    assert hop.calls == 2


def test_a_call_of_the_api_goes_through_the_gateway() -> None:
    served = Served("product", "v1", "p", 3.0, (
        call("inventory", "InventoryService/GetStock", 0.5, 1.0),
    ))  # fmt: skip
    hop = journey_hop("list", "GET /api/products", served, noted(), EDGE)
    assert shape(hop) == ["frontend", [["product", [["inventory"]]]]]


def test_what_the_record_does_not_hold_is_done_afterwards() -> None:
    served = Served("product", "v1", "p", 3.0)
    hop = journey_hop("list", "GET /api/products", served, noted(1, 2), EDGE)
    assert [each.service for each in hop.walk()] == [
        "frontend",
        "product",
        "inventory",
        "inventory",
    ]
    product = hop.stages[0][0]
    assert not product.stages
    assert [each.service for each in product.afterwards] == ["inventory"] * 2


def test_a_services_writes_are_dealt_out_to_its_hops() -> None:
    served = Served("product", "v1", "p", 3.0, (
        call("inventory", "InventoryService/GetStock", 0.5, 1.0),
    ))  # fmt: skip
    writes = noted(1, 2, inventory=(10, 20, 30), product=(7,))
    hop = journey_hop("list", "GET /api/products", served, writes, EDGE)
    assert [each.writes for each in hop.walk()] == [(), (7,), (10, 30), (20,)]
    assert hop.all_writes == 4


def test_an_answer_without_a_record_has_made_no_call() -> None:
    hop = journey_hop("static", "GET /static/shop.css", None, noted(), EDGE)
    assert shape(hop) == ["frontend"]
    assert hop.answer_bytes == 27_000


def test_a_record_that_leaves_calls_out_is_refused() -> None:
    served = Served("frontend", "v1", "f", 9.0, dropped=3)
    with pytest.raises(ValueError, match="leaves out 3 calls"):
        journey_hop("home", "GET /", served, noted(), EDGE)


@pytest.mark.parametrize(
    ("spans", "stages"),
    [
        ([], []),
        ([(0.0, 2.0), (2.1, 1.0)], [1, 1]),
        ([(0.0, 2.0), (1.9, 1.0)], [1, 1]),  # the record rounds
        ([(0.0, 2.0), (0.1, 1.0)], [2]),
        ([(0.1, 1.0), (0.0, 5.0), (1.5, 1.0), (6.0, 1.0)], [3, 1]),
    ],
)
def test_calls_that_overlap_are_made_at_once(
    spans: list[tuple[float, float]], stages: list[int]
) -> None:
    calls = [call("product", "GET /api/products", start, ms) for start, ms in spans]
    assert [len(stage) for stage in stages_of(calls)] == stages


def test_a_plan_survives_its_file() -> None:
    served = Served("product", "v1", "p", 3.0)
    plan = Plan(journeys={"list": journey_hop("list", "GET /", served, noted(1, 2), EDGE)})
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.services() == ["frontend", "inventory", "product"]
