"""The scenarios in which something is slow, sick or too much, and what the shop keeps then."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter

import pytest

from services.order.model import OrderState
from tests.mesh.meshed import Mesh, everybody_connects, takes_effect
from tests.mesh.scenarios import shows
from tests.mesh.test_traffic import CANARY, CATALOGUE, everybody_sees, served
from tests.testkit.customer import Client, Customer

ITEMS = {"linen-tea-towels": 1}


async def buy(client: Client, count: int) -> tuple[list[float], list[str]]:
    """So many purchases, one after the other: how long the first answer of each took, and the ids
    of the orders.
    """
    customer = await Customer.register(client)
    seconds: list[float] = []
    orders: list[str] = []
    for _ in range(count):
        began = time.monotonic()
        key = uuid.uuid4().hex
        answer = await customer.place(ITEMS, key=key)
        seconds.append(time.monotonic() - began)
        if answer.status not in {201, 202, 503}:
            raise AssertionError(answer)
        final = answer if answer.status == 201 else await customer.insist(ITEMS, key)
        if final.status == 201:
            orders.append(final.body["order_id"])
    return seconds, orders


async def books_are_in_order(mesh: Mesh, orders: list[str]) -> None:
    """Nobody pays twice, nothing is left behind, and who was told "confirmed" has an order."""
    async with mesh.release.books() as books:
        snapshot = await books.settled(90)
    for order_id in orders:
        assert snapshot.orders[order_id].state is OrderState.CONFIRMED


@pytest.mark.parametrize("scenario", ["05-fault-delay"])
@shows()
async def test_slow_payments(mesh: Mesh, client: Client, scenario: str) -> None:
    async def is_quick() -> bool:
        seconds, _ = await buy(client, 5)
        return max(seconds) < 2.0

    await takes_effect(is_quick, "purchases take less than two seconds")
    with mesh.scenario(scenario):

        async def are_slow() -> bool:
            seconds, _ = await buy(client, 4)
            return sum(each >= 2.0 for each in seconds) >= 2  # one may be the machine's

        await takes_effect(are_slow, "purchases take two seconds")
        seconds, orders = await buy(client, 16)
    slow = sum(each >= 2.0 for each in seconds)
    print(f"delay: {slow} of {len(seconds)} purchases took two seconds more")
    assert 2 <= slow <= 14, seconds
    assert len(orders) == 16
    await books_are_in_order(mesh, orders)


@pytest.mark.parametrize("scenario", ["06-fault-abort"])
@shows()
async def test_failing_payments(mesh: Mesh, client: Client, scenario: str) -> None:
    with mesh.scenario(scenario):
        customer = await Customer.register(client)

        async def has_failed() -> bool:
            answer = await customer.place(ITEMS)
            return any(call.callee == "payment" and call.failed for call in served(answer).calls)

        await takes_effect(has_failed, "a call of payment has failed")
        _, orders = await buy(client, 20)
        print(f"abort: {len(orders)} of 20 purchases confirmed")
    await books_are_in_order(mesh, orders)
    assert orders


async def statuses(client: Client, count: int, *, at_once: int = 1) -> Counter[int]:
    """What so many readings of the catalogue by those who ask for the canary are answered."""
    limit = asyncio.Semaphore(at_once)

    async def read() -> int:
        async with limit:
            return (await client.send("GET", CATALOGUE, headers=CANARY)).status

    return Counter(await asyncio.gather(*(read() for _ in range(count))))


@pytest.mark.parametrize("scenario", ["07-retries-and-timeouts"])
@shows()
async def test_retries_hide_a_sick_version(mesh: Mesh, client: Client, scenario: str) -> None:
    with mesh.scenario(f"{scenario}/sick"):

        async def is_sick() -> bool:
            return (await statuses(client, 20))[503] >= 3

        await takes_effect(is_sick, "the second version fails")
        without = await statuses(client, 100)
    with mesh.scenario(scenario):

        async def is_hidden() -> bool:
            return (await statuses(client, 30))[503] <= 3

        await takes_effect(is_hidden, "retries hide it")
        with_retries = await statuses(client, 200)
    print(f"503 without retries {without[503]} of 100, with retries {with_retries[503]} of 200")
    assert 30 <= without[503] <= 70
    assert with_retries[503] <= 16  # one in thirty-two would be six
    await everybody_sees(client, "v1", "v2")


@pytest.mark.parametrize("scenario", ["08-circuit-breaking"])
@shows()
async def test_a_sick_pod_is_left_alone_and_comes_back(
    mesh: Mesh, client: Client, scenario: str
) -> None:
    with mesh.scenario(scenario), mesh.sick_payment_pod() as sick:

        async def is_left_alone() -> bool:
            await buy(client, 2)
            return sick.is_left_alone()

        await takes_effect(is_left_alone, "the sick pod is left alone")
        sick.recover()

        async def is_back() -> bool:
            await buy(client, 1)
            return sick.is_asked_again()

        await takes_effect(is_back, "the pod that is well again is back")
        _, orders = await buy(client, 6)
        assert len(orders) == 6
        await books_are_in_order(mesh, orders)


@pytest.mark.parametrize("scenario", ["09-connection-pool"])
@shows(no_equivalent_on=["linkerd"])
async def test_what_is_too_much_is_refused_at_once(
    mesh: Mesh, client: Client, scenario: str
) -> None:
    assert set(await statuses(client, 120, at_once=24)) == {200}
    with mesh.scenario(scenario):

        async def overflows() -> bool:
            return (await statuses(client, 60, at_once=24))[503] > 0

        await takes_effect(overflows, "requests overflow")
        seen = await statuses(client, 120, at_once=24)
        alone = await statuses(client, 20)
    print(f"pool: {seen[503]} of 120 at once were refused, {alone[503]} of 20 one by one")
    assert seen[503] > 20
    assert set(alone) == {200}

    async def all_pass() -> bool:
        return set(await statuses(client, 60, at_once=24)) == {200}

    await takes_effect(all_pass, "nothing overflows")


async def rate(client: Client, seconds: float) -> Counter[int]:
    """Reads the catalogue as often as it can: how many answers had which status."""
    until = time.monotonic() + seconds
    seen: Counter[int] = Counter()

    async def keep_reading() -> None:
        while time.monotonic() < until:
            seen[(await client.send("GET", CATALOGUE)).status] += 1

    await asyncio.gather(*(keep_reading() for _ in range(4)))
    return seen


def within_limits(seen: Counter[int]) -> tuple[int, int]:
    """How many were let in, and how many refused; there must be nothing else."""
    assert set(seen) <= {200, 429}, seen
    return seen[200], seen[429]


@pytest.mark.parametrize("scenario", ["11-rate-limit-at-the-gateway"])
@shows(no_equivalent_on=["linkerd"])
async def test_the_gateways_rate(mesh: Mesh, client: Client, scenario: str) -> None:
    assert (await rate(client, 1.0))[429] == 0
    with mesh.scenario(scenario):

        async def is_limited() -> bool:
            return (await rate(client, 2.0))[429] > 0

        await takes_effect(is_limited, "some are refused")
        let_in, refused = within_limits(await rate(client, 6.0))
    print(f"gateway: {let_in / 6:.1f} a second let in, {refused / 6:.1f} refused")
    assert 50 <= let_in <= 90  # ten a second, and what was left of a burst of twenty
    assert refused > let_in


@pytest.mark.parametrize("scenario", ["12-rate-limit-at-a-service"])
@shows()
async def test_a_services_rate(mesh: Mesh, client: Client, scenario: str) -> None:
    with mesh.scenario(scenario):

        async def is_limited() -> bool:
            return (await rate(client, 2.0))[429] > 0

        await takes_effect(is_limited, "some are refused")
        let_in, refused = within_limits(await rate(client, 6.0))
        pages = Counter([(await client.send("GET", "/about")).status for _ in range(20)])
    print(f"product: {let_in / 6:.1f} a second of two pods, {refused / 6:.1f} refused")
    assert 100 <= let_in <= 160  # two pods
    assert pages == {200: 20}, "others are not limited"

    async def nobody_is_limited() -> bool:
        return (await rate(client, 1.0))[429] == 0

    await takes_effect(nobody_is_limited, "nobody is refused")


@pytest.mark.parametrize("scenario", ["14-egress-lockdown"])
@shows()
async def test_one_partner_is_let_through(mesh: Mesh, scenario: str) -> None:
    def is_reached_from(workload: str) -> bool:
        (answer,) = mesh.probe(f"deployment/{workload}", [mesh.partner])
        return answer.outcome == "answered"

    assert not is_reached_from("shipping-service")
    with mesh.scenario(scenario):

        async def is_reached() -> bool:
            return is_reached_from("shipping-service")

        await takes_effect(is_reached, "shipping reaches its partner")
        if mesh.has_policies:
            assert not is_reached_from("product-service")
        with mesh.without_network_policies(), everybody_connects(mesh.release.stripe):
            if mesh.egress_is_by_workload:
                assert not is_reached_from("product-service")
            else:

                async def is_reached_by_all() -> bool:
                    return is_reached_from("product-service")

                await takes_effect(is_reached_by_all, "the mesh lets product out, too")

    async def is_cut_off() -> bool:
        return not is_reached_from("shipping-service")

    await takes_effect(is_cut_off, "shipping does not reach it any more")


@pytest.mark.parametrize("scenario", ["15-user-rules"])
@shows(no_equivalent_on=["linkerd"])
async def test_rules_about_the_user(mesh: Mesh, client: Client, scenario: str) -> None:
    customer = await Customer.register(client)
    member = await Customer.register(client)
    assert (await member.send("PATCH", "/api/users/me", json={"beta": True})).status == 200
    member = await member.logged_in_again()
    inbox = "/api/notifications"
    assert (await customer.send("GET", inbox)).status == 200
    with mesh.scenario(scenario):

        async def is_refused() -> bool:
            return (await customer.send("GET", inbox)).status == 403

        await takes_effect(is_refused, "who is no member may not read")
        assert (await member.send("GET", inbox)).status == 200

    async def may_read() -> bool:
        return (await customer.send("GET", inbox)).status == 200

    await takes_effect(may_read, "everybody may read again")
