"""What the page /mesh shows of calls that are slow, fail or are refused, with the Prometheus of
observability/: its figures are held against the records of what was sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from playwright.async_api import Page

from services.common import call_record
from tests.mesh.mesh_page import (
    GOODS,
    PATIENCE_SECONDS,
    Crowd,
    HeldUp,
    Row,
    Shown,
    Take,
    buyers,
    crowd,
    held_up,
    is_about,
    number,
    read_when,
    readers,
)
from tests.mesh.meshed import Mesh, takes_effect
from tests.mesh.scenarios import shows
from tests.mesh.test_resilience import books_are_in_order
from tests.testkit.chance import is_chance
from tests.testkit.customer import Client, Customer
from tests.testkit.waiting import eventually

pytestmark = pytest.mark.long

_PAYMENT = "deployment/payment-service"
_STOCK = "/api/products/oak-serving-board"


@pytest.mark.parametrize("scenario", ["05-fault-delay"])
@shows()
async def test_slow_payments(
    mesh: Mesh, shown: Mesh, client: Client, page: Page, pictures: Take, scenario: str
) -> None:
    """Order waits, and payment, which answers as quickly as ever, never learns of it."""
    with mesh.scenario(scenario):
        async with crowd(*await buyers(client, 4)) as sent:

            async def is_slow() -> bool:
                return any(slow(sent))

            await takes_effect(is_slow, "an authorization takes two seconds more")
            sent.begin_again()
            await sent.is_settled()
            seen = await read_when(page, "order waits, and payment does not", is_slow_on_the_way)
            expected = sent.in_a_window("payment", "order")
            await pictures(page, "05-fault-delay")
    row, box = seen.calls["order", "payment"], seen.services["payment"]
    held = Counter(slow(sent))
    print(f"shown: {row}, {box}; a window of what was sent: {expected:.0f}; slow: {held}")
    assert is_chance(held[True], held.total(), 0.5), held
    assert is_about(number(row["Calls"]), expected), (row, expected)
    assert number(row["Errors"]) < 0.05 * number(row["Calls"]), row
    await books_are_in_order(mesh, sent.orders)


def is_slow_on_the_way(seen: Shown) -> bool:
    """Whether calls of payment take two seconds by order, and not by payment. A busy node makes a
    single one slow by both, for as long as it is in the window.
    """
    row, box = seen.calls.get(("order", "payment")), seen.services.get("payment")
    if row is None or box is None:
        return False
    return number(row["p99"]) >= 2_000 > max(number(version["p99"]) for version in box.values())


def slow(sent: Crowd) -> list[bool]:
    """Of each authorization of a card whether it took two seconds more."""
    authorizations = sent.calls("payment", "order")
    return [
        call.milliseconds >= 2_000
        for call in authorizations
        if call.operation.endswith("/Authorize")
    ]


@pytest.mark.parametrize("scenario", ["08-circuit-breaking"])
@shows()
async def test_a_sick_pod_and_none_that_is_well(
    mesh: Mesh, shown: Mesh, client: Client, page: Page, pictures: Take, scenario: str
) -> None:
    """The proxies leave the sick pod alone, and try again what it has failed: the page shows what
    order has seen of that, which is little. Without a pod that is well order sees it all, and opens
    its circuit.
    """
    edge = ("order", "payment")
    with mesh.scenario(scenario), mesh.sick_payment_pod() as sick:
        async with crowd(*await buyers(client, 3)) as sent:

            async def is_left_alone() -> bool:
                return await asyncio.to_thread(sick.is_left_alone)

            await eventually(is_left_alone, "the sick pod is left alone", PATIENCE_SECONDS)
            sent.begin_again()
            await sent.is_settled()
            seen = await read_when(page, "payments", lambda seen: edge in seen.calls)
            expected = sent.in_a_window("payment", "order")
            await pictures(page, "08-circuit-breaking-sick")
        orders, row = sent.orders, seen.calls[edge]
        failed = sum(call.failed for call in sent.calls("payment", "order"))
        print(f"sick: {row}; a window of what was sent: {expected:.0f}; failed in all: {failed}")
        assert is_about(number(row["Calls"]), expected), (row, expected)
        assert number(row["Errors"]) < 0.2 * number(row["Calls"]), row
        assert not held_up(row).is_open, row

        replicas = mesh.namespace.object("deployment", "payment-service")["spec"]["replicas"]
        mesh.namespace.kubectl("scale", _PAYMENT, "--replicas=0")
        try:
            async with crowd(*await buyers(client, 3)) as sent:
                seen = await read_when(
                    page,
                    "order's circuit is open",
                    lambda seen: edge in seen.calls and is_out(seen.calls[edge]),
                )
                await pictures(page, "08-circuit-breaking-open")
        finally:
            mesh.namespace.kubectl("scale", _PAYMENT, f"--replicas={replicas}")
            mesh.namespace.roll_out(_PAYMENT)
        row = seen.calls[edge]
        assert (held_up(row).by_mesh, held_up(row).by_service) == (0, 0), row
        assert any(call.failed for call in sent.calls("payment", "order")), "order tells the same"

    customer = await Customer.register(client)

    async def is_back() -> bool:
        return (await customer.place(GOODS)).status == 201

    await eventually(is_back, "people can pay again", PATIENCE_SECONDS)
    await read_when(
        page,
        "order's circuit is closed",
        lambda seen: edge in seen.calls and not held_up(seen.calls[edge]).is_open,
    )
    await books_are_in_order(mesh, [*orders, *sent.orders])


def is_out(row: Row) -> bool:
    """Whether a callee fails, and its caller has stopped to ask it."""
    return number(row["Errors"]) > 0 and held_up(row).is_open and held_up(row).not_made > 0


async def test_what_the_mesh_refuses(
    in_a_mesh: Mesh, shown: Mesh, client: Client, page: Page, pictures: Take
) -> None:
    """Product may ask for the stock by the topology and by the network, and the mesh refuses it.
    The frontend refuses a form that is none of its own: that is an answer of 403 by a service.
    """
    edge = ("product", "inventory")

    async def send_a_forged_form(sent: Crowd) -> None:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        sent.note(await client.send("POST", "/preview", data=b"preview=on", headers=headers))

    async def refused() -> set[bool]:
        looked = Crowd()
        for _ in range(10):
            looked.note(await client.send("GET", _STOCK))
        return {is_denied(call) for call in looked.calls("inventory", "product")}

    async def all_are() -> bool:
        return await refused() == {True}

    async def none_is() -> bool:
        return await refused() == {False}

    with in_a_mesh.nobody_asks_for_stock():
        await takes_effect(all_are, "product is refused the stock")
        async with crowd(*readers(client, _STOCK, _STOCK), send_a_forged_form) as sent:
            await sent.is_settled()
            seen = await read_when(
                page,
                "all that product asks of inventory is refused by the mesh",
                lambda seen: edge in seen.calls and held_up(seen.calls[edge]).by_mesh > 0,
            )
            expected = sent.in_a_window("inventory", "product")
            await pictures(page, "refused")
    await takes_effect(none_is, "product is told the stock")
    row = seen.calls[edge]
    print(f"refused: {row}; a window of what was sent: {expected:.0f}; answers: {sent.answers}")
    denied = sum(is_denied(call) for call in sent.calls("inventory", "product"))
    assert denied >= 0.98 * len(sent.calls("inventory", "product"))  # or the node is too busy
    assert sent.answers[200] >= 0.98 * denied, "product does without the stock"
    assert sent.answers[403] > 0, "the form is refused"
    by_mesh = held_up(row).by_mesh
    assert held_up(row) == HeldUp(is_open=False, not_made=0, by_mesh=by_mesh, by_service=0), row
    assert is_about(by_mesh, expected), (row, expected)
    assert by_mesh == pytest.approx(number(row["Calls"]), abs=3)
    assert held_up(seen.calls["visitors", "frontend"]).by_mesh == 0, "the form was the frontend's"


def is_denied(call: call_record.Call) -> bool:
    """Whether it was refused before it has reached a service."""
    return call.status == "denied" and not call.instance
