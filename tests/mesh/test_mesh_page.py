"""What the page /mesh shows of scenarios while people use the shop, with the Prometheus of
observability/: its figures are held against the records of what was sent, and pictures are taken.

MESHMART_SCREENSHOTS names the folder for the pictures; without it they are in pytest's own.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import BrowserContext, Page

from services.common import record
from tests.harness.browser import MISSING, chromium, open_browser
from tests.harness.chance import is_chance
from tests.harness.customer import Answer, Client, Customer
from tests.harness.matrix import TOPOLOGY
from tests.harness.waiting import eventually
from tests.mesh.meshed import HOST, NODE, Mesh, takes_effect
from tests.mesh.scenarios import shows
from tests.mesh.test_resilience import books_are_in_order
from tests.mesh.test_traffic import (
    CATALOGUE,
    everybody_sees,
    is_share,
    versions,
    versions_behind_pages,
)
from tools.kind import PROMETHEUS_URL

pytestmark = pytest.mark.long

WINDOW_SECONDS = 60.0  # the page's shortest
# Prometheus looks every ten seconds. What the window shows is of this state alone once it has
# lasted for the window, one look before it, and one that is late.
SETTLED_SECONDS = WINDOW_SECONDS + 20.0
# So sixty seconds are made of the fifty between six looks: that many of the calls shown are
# counted, and the others inferred. What the ends of the window make of it is in the tolerance.
COUNTED = 50 / 60
TOLERANCE = 0.35
_PATIENCE_SECONDS = 180.0
_PAYMENT = "deployment/payment-service"
STOCK = "/api/products/oak-serving-board"
# What the shop has most of.
GOODS = {"fig-scented-candle": 1}

_NOTHING = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"

Row = Mapping[str, str]


class Shown(NamedTuple):
    """What a page shows.

    :ivar calls: the rows of the table for screen readers, by caller and callee, those with calls.
    :ivar services: the rows of each service's box, by version.
    """

    notes: str
    calls: Mapping[tuple[str, str], Row]
    services: Mapping[str, Mapping[str, Row]]


class Sent(NamedTuple):
    """A call of which an answer has told."""

    at: float
    caller: str
    call: record.Call


@dataclass(slots=True)
class Crowd:
    """People who use the shop, and what the records of their answers say."""

    began: float = field(default_factory=time.monotonic)
    sent: list[Sent] = field(default_factory=list[Sent])
    answers: Counter[int] = field(default_factory=Counter[int])
    orders: list[str] = field(default_factory=list[str])

    def note(self, answer: Answer) -> None:
        """Takes down what an answer's record tells, its own service as called by nobody."""
        self.answers[answer.status] += 1
        served = record.decode(answer.headers.get(record.HEADER))
        if served is None:  # a proxy has answered
            return
        whole = record.Call(
            callee=served.service,
            operation="",
            version=served.version,
            instance=served.instance,
            milliseconds=served.milliseconds,
            status=str(answer.status),
            calls=served.calls,
        )
        self.sent += _flat(time.monotonic(), "", [whole])

    def begin_again(self) -> None:
        """Forgets the calls so far: what is to be seen begins now."""
        self.began = time.monotonic()
        self.sent.clear()

    def calls(self, callee: str, caller: str | None = None) -> list[record.Call]:
        """Those of a service, since the beginning, with those that were not made."""
        return [one.call for one in self._of(callee, caller)]

    def in_a_window(self, callee: str, caller: str | None = None) -> float:
        """How many of those that were made a window holds on average, as far as a page can look
        back.
        """
        until = time.monotonic()
        latest = sum(
            one.call.status != record.REFUSED and until - one.at <= SETTLED_SECONDS
            for one in self._of(callee, caller)
        )
        return latest * WINDOW_SECONDS / min(SETTLED_SECONDS, until - self.began)

    async def is_settled(self) -> None:
        """Waits until a page shows nothing else: a window is a time."""
        await asyncio.sleep(max(0.0, self.began + SETTLED_SECONDS - time.monotonic()))

    def _of(self, callee: str, caller: str | None) -> Iterator[Sent]:
        for one in self.sent:
            if one.call.callee == callee and caller in {None, one.caller}:
                yield one


def _flat(at: float, caller: str, calls: Iterable[record.Call]) -> Iterator[Sent]:
    for call in calls:
        yield Sent(at, caller, call)
        yield from _flat(at, call.callee, call.calls)


@asynccontextmanager
async def crowd(*people: Callable[[Crowd], Awaitable[None]]) -> AsyncGenerator[Crowd]:
    """People who each do the same again and again, with a pause that makes the rate a steady one:
    what Prometheus infers is right only of such.
    """
    found = Crowd()
    is_over = asyncio.Event()

    async def keep_on(act: Callable[[Crowd], Awaitable[None]]) -> None:
        while not is_over.is_set():
            await act(found)
            await asyncio.sleep(0.3)

    async with asyncio.TaskGroup() as group:
        for act in people:
            group.create_task(keep_on(act))
        try:
            yield found
        finally:
            is_over.set()


def readers(client: Client, *paths: str) -> list[Callable[[Crowd], Awaitable[None]]]:
    """One for each path: pages and the API, both by the gateway."""

    def reader(path: str) -> Callable[[Crowd], Awaitable[None]]:
        async def read(crowd: Crowd) -> None:
            crowd.note(await client.send("GET", path))

        return read

    return [reader(path) for path in paths]


async def buyers(client: Client, count: int) -> list[Callable[[Crowd], Awaitable[None]]]:
    """Customers who buy one thing after the other, whatever comes of it."""

    def buyer(customer: Customer) -> Callable[[Crowd], Awaitable[None]]:
        async def buy(crowd: Crowd) -> None:
            answer = await customer.place(GOODS)
            crowd.note(answer)
            assert answer.status in {201, 202, 503, 504}, answer
            if answer.status == 201:
                crowd.orders.append(answer.body["order_id"])
            await asyncio.sleep(4.0)  # there are only some hundred to sell

        return buy

    return [buyer(await Customer.register(client)) for _ in range(count)]


@pytest.fixture(scope="module")
def shown(observed: Mesh) -> Generator[Mesh]:
    """The shop whose mesh page asks Prometheus."""
    observed.release.upgrade(f"observability.prometheusUrl={PROMETHEUS_URL}")
    yield observed
    observed.release.upgrade("observability.prometheusUrl=")


@pytest.fixture
async def window(shown: Mesh, client: Client) -> AsyncGenerator[BrowserContext]:
    """A browser of somebody outside."""
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    async with open_browser(executable, {HOST: NODE}) as browser:
        # The certificate is one of the shop's own making; test_edge.py verifies it.
        yield await browser.new_context(
            base_url=client.base_url,
            ignore_https_errors=True,
            viewport={"width": 1280, "height": 900},
        )


@pytest.fixture
async def page(window: BrowserContext) -> Page:
    """The one that stays open."""
    return await window.new_page()


@pytest.fixture
def pictures(shown: Mesh, tmp_path: Path) -> Callable[[Page, str], Awaitable[None]]:
    """Takes a picture of a page, by a name."""
    folder = Path(os.environ.get("MESHMART_SCREENSHOTS") or tmp_path)

    async def take(page: Page, name: str) -> None:
        path = folder / f"{shown.name}-{name}.png"
        await page.screenshot(path=path, full_page=True)
        print(f"picture: {path}")

    return take


Take = Callable[[Page, str], Awaitable[None]]


async def read(page: Page) -> Shown:
    """Opens the page and reads what it shows to a screen reader; it stays as it was read."""
    await page.goto("/mesh")
    await page.get_by_label("Live: every 2 seconds").uncheck()
    return await _read(page)


async def _read(page: Page) -> Shown:
    found = await page.evaluate(_READ)
    calls = {
        (row["From"], row["To"].split()[0]): row
        for row in found["calls"]
        if row["Calls"] != _NOTHING
    }
    services = {
        name: {row["Version"].split()[0]: row for row in rows}
        for name, rows in found["services"].items()
    }
    return Shown(found["notes"], calls, services)


_READ = """() => {
  const text = (cell) => cell.textContent.replace(/\\s+/g, " ").trim();
  const rows = (table) => {
    const names = [...table.tHead.rows[0].cells].map(text);
    return [...table.tBodies[0].rows].map(
      (row) => Object.fromEntries([...row.cells].map((cell, n) => [names[n], text(cell)])));
  };
  const boxes = [...document.querySelectorAll(".box")];
  return {
    notes: [...document.querySelectorAll("#live > p")].map(text).join(" "),
    calls: rows(document.querySelector("table.figures")),
    services: Object.fromEntries(
      boxes.map((box) => [text(box.querySelector("h3 span")), rows(box.querySelector("table"))])),
  };
}"""


async def read_when(page: Page, what: str, is_it: Callable[[Shown], bool]) -> Shown:
    """Opens the page again and again until it shows something."""
    latest: Shown | None = None

    async def look() -> Shown | None:
        nonlocal latest
        latest = await read(page)
        return latest if is_it(latest) else None

    try:
        return await eventually(look, what, _PATIENCE_SECONDS)
    finally:
        print(f"{what}: {latest}")


def number(text: str) -> float:
    """A cell's number, without its unit; nothing is 0, and what is less than a number is that."""
    return 0.0 if text == _NOTHING else float(text.removeprefix("< ").split(maxsplit=1)[0])


class HeldUp(NamedTuple):
    """What a row says of calls that came to nothing: `not_made`, and answers of 403."""

    is_open: bool
    not_made: int
    by_mesh: int
    by_service: int


def held_up(row: Row) -> HeldUp:
    """Reads the cell."""
    text = row["Held up"]

    def count(pattern: str) -> int:
        found = re.search(rf"(\d+) {pattern}", text)
        return int(found[1]) if found else 0

    return HeldUp(
        is_open="circuit open" in text,
        not_made=count("not made"),
        by_mesh=count(f"{_TIMES} 403 by the mesh"),
        by_service=count(f"{_TIMES} 403 by (?!the mesh)"),
    )


def is_about(shown: float, expected: float) -> bool:
    """Whether a count shown is what was sent, but for what Prometheus infers."""
    return abs(shown - expected) <= TOLERANCE * expected


@pytest.mark.parametrize("scenario", ["03-canary-by-weight/10"])
@shows()
async def test_a_canary_of_ten_percent(
    mesh: Mesh, shown: Mesh, client: Client, page: Page, pictures: Take, scenario: str
) -> None:
    with mesh.scenario(scenario):

        async def is_split() -> bool:
            pages = await versions_behind_pages(client, 50)
            return is_share(await versions(client, 100), 0.1) and is_share(pages, 0.1)

        await takes_effect(is_split, "about 10 % see v2")
        people = readers(client, CATALOGUE, CATALOGUE, "/products", "/products")
        async with crowd(*people) as sent:
            await sent.is_settled()
            seen = await read_when(
                page, "Prometheus is asked", lambda seen: "From Prometheus" in seen.notes
            )
            expected = sent.in_a_window("product")
            await pictures(page, "03-canary-by-weight-10")
    box = seen.services["product"]
    assert box.keys() == {"v1", "v2"}, box
    shares = {version: number(row["Answers"]) for version, row in box.items()}
    total = sum(shares.values())
    by_record = Counter(call.version for call in sent.calls("product"))
    print(f"shown: {shares}; a window of what was sent: {expected:.0f}; all of it: {by_record}")
    assert sent.answers[200] >= 0.98 * sent.answers.total(), sent.answers  # or the node is too busy
    assert is_about(total, expected), (total, expected)
    assert is_chance(round(COUNTED * shares["v2"]), round(COUNTED * total), 0.1), box
    assert is_chance(by_record["v2"], by_record["v1"] + by_record["v2"], 0.1), by_record
    for version, row in box.items():
        assert number(row["Share"]) == pytest.approx(100 * shares[version] / total, abs=0.6)
        assert number(row["Errors"]) < 2, box
    assert {("frontend", "product"), ("visitors", "product")} <= seen.calls.keys()
    pages = number(seen.calls["frontend", "product"]["Calls"])
    assert is_about(pages, expected * len(sent.calls("product", "frontend")) / by_record.total())
    await everybody_sees(client, "v1", "v2")


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

            await eventually(is_left_alone, "the sick pod is left alone", _PATIENCE_SECONDS)
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

    await eventually(is_back, "people can pay again", _PATIENCE_SECONDS)
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
            looked.note(await client.send("GET", STOCK))
        return {is_denied(call) for call in looked.calls("inventory", "product")}

    async def all_are() -> bool:
        return await refused() == {True}

    async def none_is() -> bool:
        return await refused() == {False}

    with in_a_mesh.nobody_asks_for_stock():
        await takes_effect(all_are, "product is refused the stock")
        async with crowd(*readers(client, STOCK, STOCK), send_a_forged_form) as sent:
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


def is_denied(call: record.Call) -> bool:
    """Whether it was refused before it has reached a service."""
    return call.status == "denied" and not call.instance


async def test_all_frontends_show_the_same(
    mesh: Mesh, shown: Mesh, client: Client, window: BrowserContext, page: Page
) -> None:
    """Two of the usual one and one of each variant, asked one by one: of pages, each of which came
    to one of them, and of the API, which came to none of them in a mesh.
    """
    frontend = "deployment/frontend"
    port = TOPOLOGY.services["frontend"].http.port
    mesh.namespace.kubectl("scale", frontend, "--replicas=2")
    try:
        mesh.namespace.roll_out(frontend)
        pods = mesh.release.pods("frontend")
        assert len(pods) == 4, pods
        with ExitStack() as stack:
            addresses = [
                stack.enter_context(mesh.namespace.forwarded(f"pod/{pod}", port)) for pod in pods
            ]
            async with crowd(*readers(client, CATALOGUE, CATALOGUE, "/about", "/about")) as sent:
                await sent.is_settled()
                latest: list[Shown] = []

                async def all_agree() -> bool:
                    """At once, and again: Prometheus may look at pods while they ask."""
                    texts = await asyncio.gather(
                        *(_text(window, f"http://{address}/mesh") for address in addresses)
                    )
                    latest[:] = [await _read_text(page, text) for text in texts]
                    return all(is_same(each, latest[0]) for each in latest)

                try:
                    await eventually(all_agree, "all frontends show the same", _PATIENCE_SECONDS)
                finally:
                    for pod, each in zip(pods, latest, strict=False):
                        print(f"{pod}: {each}")
                expected = {name: sent.in_a_window(name) for name in ("product", "frontend")}
    finally:
        mesh.namespace.kubectl("scale", frontend, "--replicas=1")
        mesh.namespace.roll_out(frontend)
    assert len({call.instance for call in sent.calls("frontend")}) > 1, "none has made all pages"
    assert "From Prometheus" in latest[0].notes
    answers = {
        name: sum(number(row["Answers"]) for row in latest[0].services[name].values())
        for name in expected
    }
    print(f"shown: {answers}; a window of what was sent: {expected}")
    assert is_about(answers["product"], expected["product"])
    assert answers["frontend"] >= (1 - TOLERANCE) * expected["frontend"], "mesh pages count, too"


def is_same(one: Shown, other: Shown) -> bool:
    """Whether two pages show the same numbers. The ends of their windows are not at the same
    moment, so what is inferred there may differ by a call or two in forty.
    """
    counts, others = counts_of(one), counts_of(other)
    return one.notes == other.notes and all(
        abs(counts[name] - others[name]) <= max(2, 0.05 * counts[name])
        for name in counts.keys() | others.keys()
    )


def counts_of(seen: Shown) -> Counter[tuple[str, str, str]]:
    """All calls, errors and answers; what is not shown is 0."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (caller, callee), row in seen.calls.items():
        found[caller, callee, "calls"] = int(number(row["Calls"]))
        found[caller, callee, "errors"] = int(number(row["Errors"]))
    for name, versions_of in seen.services.items():
        for version, row in versions_of.items():
            found[name, version, "answers"] = int(number(row["Answers"]))
    return found


async def _text(window: BrowserContext, url: str) -> str:
    answer = await window.request.get(url)
    assert answer.ok, answer
    return await answer.text()


async def _read_text(page: Page, text: str) -> Shown:
    await page.set_content(text, wait_until="domcontentloaded")
    return await _read(page)
