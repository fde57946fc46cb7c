"""The scenarios in which something is slow, sick or too much, and what the shop keeps then."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections import Counter

from services.order.model import State
from tests.harness.customer import Client, Customer
from tests.harness.waiting import eventually
from tests.mesh.meshed import SCENARIOS, SETTLE_SECONDS, Mesh, at_rest, takes_effect
from tests.mesh.test_traffic import CANARY, CATALOGUE, everybody_sees, served

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
        assert snapshot.orders[order_id].state is State.CONFIRMED


async def test_slow_payments(mesh: Mesh, client: Client) -> None:
    async def is_quick() -> bool:
        seconds, _ = await buy(client, 5)
        return max(seconds) < 2.0

    await takes_effect(is_quick, "purchases take less than two seconds")
    with mesh.scenario("05-fault-delay"):

        async def is_slow() -> bool:
            seconds, _ = await buy(client, 1)
            return seconds[0] >= 2.0

        await takes_effect(is_slow, "a purchase takes two seconds")
        seconds, orders = await buy(client, 16)
    slow = sum(each >= 2.0 for each in seconds)
    print(f"delay: {slow} of {len(seconds)} purchases took two seconds more")
    assert 2 <= slow <= 14, seconds
    assert len(orders) == 16
    await books_are_in_order(mesh, orders)


async def test_failing_payments(mesh: Mesh, client: Client) -> None:
    with mesh.scenario("06-fault-abort"):
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


async def test_retries_hide_a_sick_version(mesh: Mesh, client: Client) -> None:
    folder = SCENARIOS / "07-retries-and-timeouts"
    with mesh.scenario("01-canary-by-header"):
        mesh.apply(folder / "sick.yaml")

        async def is_sick() -> bool:
            return (await statuses(client, 20))[503] >= 3

        await takes_effect(is_sick, "the second version fails")
        without = await statuses(client, 100)
        mesh.delete(folder / "sick.yaml")
    with mesh.scenario(folder.name):

        async def is_hidden() -> bool:
            return (await statuses(client, 30))[503] <= 3

        await takes_effect(is_hidden, "retries hide it")
        with_retries = await statuses(client, 200)
    print(f"503 without retries {without[503]} of 100, with retries {with_retries[503]} of 200")
    assert 30 <= without[503] <= 70
    assert with_retries[503] <= 16  # one in thirty-two would be six
    await everybody_sees(client, "v1", "v2")


async def test_a_sick_pod_is_left_alone_and_comes_back(mesh: Mesh, client: Client) -> None:
    workload = "deployment/payment-service"
    mesh.namespace.kubectl("scale", workload, "--replicas=2")
    mesh.namespace.roll_out(workload)
    (order_pod,) = mesh.release.pods("order-service")

    def ejected() -> int:
        hosts = mesh.upstream_hosts(order_pod, "9000||payment-service")
        return sum(host["health_status"].get("failed_outlier_check", False) for host in hosts)

    try:
        with mesh.scenario("08-circuit-breaking"):
            assert ejected() == 0
            sick = mesh.release.pods("payment-service")[0]
            mesh.namespace.kubectl("label", "pod", sick, "sick=true")

            async def is_ejected() -> bool:
                await buy(client, 2)
                return ejected() == 1

            await takes_effect(is_ejected, "the sick pod is ejected")
            mesh.namespace.kubectl("label", "pod", sick, "sick-")

            async def is_back() -> bool:
                await buy(client, 1)
                return ejected() == 0

            await takes_effect(is_back, "the pod that is well again is back")
            _, orders = await buy(client, 6)
            assert len(orders) == 6
        await books_are_in_order(mesh, orders)
    finally:
        mesh.namespace.kubectl("scale", workload, "--replicas=1")
        mesh.namespace.roll_out(workload)


async def test_what_is_too_much_is_refused_at_once(mesh: Mesh, client: Client) -> None:
    assert set(await statuses(client, 120, at_once=24)) == {200}
    with mesh.scenario("09-connection-pool"):

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


async def rate(client: Client, seconds: float) -> tuple[int, int]:
    """Reads the catalogue as often as it can: how many were answered, and how many refused."""
    until = time.monotonic() + seconds
    seen: Counter[int] = Counter()

    async def keep_reading() -> None:
        while time.monotonic() < until:
            seen[(await client.send("GET", CATALOGUE)).status] += 1

    await asyncio.gather(*(keep_reading() for _ in range(4)))
    assert set(seen) <= {200, 429}, seen
    return seen[200], seen[429]


async def test_the_gateways_rate(mesh: Mesh, client: Client) -> None:
    assert (await rate(client, 1.0))[1] == 0
    with mesh.scenario("11-rate-limit-at-the-gateway"):

        async def is_limited() -> bool:
            return (await rate(client, 2.0))[1] > 0

        await takes_effect(is_limited, "some are refused")
        let_in, refused = await rate(client, 6.0)
    print(f"gateway: {let_in / 6:.1f} a second let in, {refused / 6:.1f} refused")
    assert 50 <= let_in <= 90  # ten a second, and what was left of a burst of twenty
    assert refused > let_in


async def test_a_services_rate(mesh: Mesh, client: Client) -> None:
    with mesh.scenario("12-rate-limit-at-a-service"):

        async def is_limited() -> bool:
            return (await rate(client, 2.0))[1] > 0

        await takes_effect(is_limited, "some are refused")
        let_in, refused = await rate(client, 6.0)
        pages = Counter([(await client.send("GET", "/about")).status for _ in range(20)])
    print(f"product: {let_in / 6:.1f} a second of two pods, {refused / 6:.1f} refused")
    assert 100 <= let_in <= 160  # two pods
    assert pages == {200: 20}, "others are not limited"

    async def nobody_is_limited() -> bool:
        return (await rate(client, 1.0))[1] == 0

    await takes_effect(nobody_is_limited, "nobody is refused")


async def test_one_partner_is_let_through(mesh: Mesh) -> None:
    carrier = [{"method": "GET", "url": "http://carrier.example.com/livez"}]

    def outcome(workload: str) -> str:
        return mesh.probe(f"deployment/{workload}", carrier)[0].outcome

    assert outcome("shipping-service") == "failed"
    with mesh.scenario("14-egress-lockdown"):

        async def is_reached() -> bool:
            return outcome("shipping-service") == "answered"

        await takes_effect(is_reached, "shipping reaches its partner")
        assert outcome("product-service") == "failed"

    async def is_cut_off() -> bool:
        return outcome("shipping-service") == "failed"

    await takes_effect(is_cut_off, "shipping does not reach it any more")


async def test_rules_about_the_user(mesh: Mesh, client: Client) -> None:
    customer = await Customer.register(client)
    member = await Customer.register(client)
    assert (await member.send("PATCH", "/api/users/me", json={"beta": True})).status == 200
    member = await member.logged_in_again()
    inbox = "/api/notifications"
    assert (await customer.send("GET", inbox)).status == 200
    with mesh.scenario("15-user-rules"):

        async def is_refused() -> bool:
            return (await customer.send("GET", inbox)).status == 403

        await takes_effect(is_refused, "who is no member may not read")
        assert (await member.send("GET", inbox)).status == 200

    async def may_read() -> bool:
        return (await customer.send("GET", inbox)).status == 200

    await takes_effect(may_read, "everybody may read again")


async def test_one_trace_in_ten(mesh: Mesh, client: Client) -> None:
    count = 200

    def traces() -> set[str]:
        return {span["trace"] for span in mesh.spans() if "ingress" in span["service"]}

    async def share() -> int:
        before = traces()
        for _ in range(count):
            await client.send("GET", "/api/categories")
        last = secrets.token_hex(16)  # kept for sure, since its caller has decided so
        decided = {"traceparent": f"00-{last}-{secrets.token_hex(8)}-01"}
        await client.send("GET", "/api/categories", headers=decided)

        async def has_arrived() -> bool:
            return last in traces()

        # The collector may be busy with the tests before.
        await eventually(has_arrived, "the last trace", SETTLE_SECONDS)
        # Proxies send their spans every five seconds.
        return await at_rest(lambda: len(traces() - before - {last}), 6.0)

    assert await share() > 0.9 * count
    with mesh.scenario("18-tracing"):

        async def is_rare() -> bool:
            return await share() < count / 3

        await takes_effect(is_rare, "few traces are kept")
        kept = await share()
    print(f"tracing: {kept} of {count} traces kept")
    assert 3 <= kept <= 40
