"""What the page /mesh shows, as a screen reader would read it, and people whose answers say what it
should show.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from playwright.async_api import Error, Page

from services.common import call_record
from tests.testkit.customer import Answer, Client, Customer
from tests.testkit.waiting import eventually

WINDOW_SECONDS = 60.0  # the page's shortest
# Prometheus looks every ten seconds. What the window shows is of this state alone once it has
# lasted for the window, one look before it, and one that is late.
SETTLED_SECONDS = WINDOW_SECONDS + 20.0
# So sixty seconds are made of the fifty between six looks: that many of the calls shown are
# counted, and the others inferred. What the ends of the window make of it is in the tolerance.
COUNTED = 50 / 60
TOLERANCE = 0.35
PATIENCE_SECONDS = 180.0
# What the shop has most of.
GOODS = {"fig-scented-candle": 1}

_NOTHING = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"

Row = Mapping[str, str]
Take = Callable[[Page, str], Awaitable[None]]


class Shown(NamedTuple):
    """What a page shows.

    :ivar calls: the rows of the table for screen readers, by caller and callee, those with calls.
    :ivar services: the rows of each service's box, by version.
    """

    notes: str
    calls: Mapping[tuple[str, str], Row]
    services: Mapping[str, Mapping[str, Row]]


async def read(page: Page) -> Shown:
    """Opens the page and reads what it shows to a screen reader; it stays as it was read."""
    await page.goto("/mesh")
    await page.get_by_label("Live: every 2 seconds").uncheck()
    return await read_as_it_is(page)


async def read_as_it_is(page: Page) -> Shown:
    """Reads the page that is open."""
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


# What the browser says when a pod of this machine comes or goes, and its interface with it, and
# when it then loads the page again by itself.
_NETWORK_CHANGED = ("ERR_NETWORK_CHANGED", "is interrupted by another navigation")


async def read_when(page: Page, what: str, is_it: Callable[[Shown], bool]) -> Shown:
    """Opens the page again and again until it shows something."""
    latest: Shown | None = None

    async def look() -> Shown | None:
        nonlocal latest
        try:
            latest = await read(page)
        except Error as error:
            if not any(said in error.message for said in _NETWORK_CHANGED):
                raise
            return None
        return latest if is_it(latest) else None

    try:
        return await eventually(look, what, PATIENCE_SECONDS)
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


class Sent(NamedTuple):
    """A call of which an answer has told."""

    at: float
    caller: str
    call: call_record.Call


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
        served = call_record.decode(answer.headers.get(call_record.HEADER))
        if served is None:  # a proxy has answered
            return
        whole = call_record.Call(
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

    def calls(self, callee: str, caller: str | None = None) -> list[call_record.Call]:
        """Those of a service, since the beginning, with those that were not made."""
        return [one.call for one in self._of(callee, caller)]

    def in_a_window(self, callee: str, caller: str | None = None) -> float:
        """How many of those that were made a window holds on average, as far as a page can look
        back.
        """
        until = time.monotonic()
        latest = sum(
            one.call.status != call_record.REFUSED and until - one.at <= SETTLED_SECONDS
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


def _flat(at: float, caller: str, calls: Iterable[call_record.Call]) -> Iterator[Sent]:
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
