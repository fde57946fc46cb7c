"""Processes are killed while people buy, and nobody pays twice."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from labs.errors import LabError
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, LocalExercise
from labs.local import LocalShop
from labs.waiting import eventually
from services.order.model import Order, OrderState

_ORDERS = 5
_REST_SECONDS = 30.0
_BACK_SECONDS = 30.0
# What an order cannot do without.
_KILLED = ("payment", "order")


class PayOnce(LocalExercise):
    """Orders are placed, and processes killed meanwhile."""

    async def solve(self, shop: LocalShop) -> None:
        async with shop.visitor() as visitor:
            answers = [await visitor.insist()]
            for service in _KILLED:
                await _kill(shop, service)
                answers.append(await visitor.insist())
            while len(answers) < _ORDERS:
                answers.append(await visitor.insist())
        refused = [answer.status for answer in answers if answer.status != 201]
        if refused:
            raise LabError(
                f"An order was answered {refused[0]}: see {shop.folder}/logs/order.log, and solve "
                "again."
            )

    async def check(self, shop: LocalShop) -> AsyncIterator[Finding]:
        shop.running()
        orders = await self._settled(shop)
        confirmed = [order for order in orders if order.state is OrderState.CONFIRMED]
        yield judged(
            len(confirmed) >= _ORDERS,
            f"{len(confirmed)} orders are confirmed",
            f"{len(confirmed)} of {_ORDERS} orders are confirmed since the lab began",
            "the answers to POST /api/orders: does each order have its own idempotency key?",
        )
        if open_orders := [order.id for order in orders if not order.is_settled]:
            yield wrong(
                f"{open_orders[0]} is not finished after {_REST_SECONDS:.0f} s",
                f"{shop.folder}/logs/order.log: which process does the order wait for?",
            )
        yield self._deaths(shop, confirmed)
        snapshot, violations = await shop.books()
        charges = [snapshot.ledger.charges(order.id) for order in confirmed]
        if violations:
            yield wrong(
                f"the stores disagree: {violations[0]}",
                f".venv/bin/python -m services audit --data {shop.folder}",
            )
        else:
            yield right(
                f"the stores and Stripe agree; charges: {sum(map(len, charges))}, "
                f"confirmed orders: {len(confirmed)}"
            )

    def _deaths(self, shop: LocalShop, confirmed: list[Order]) -> Finding:
        """Whether something was killed between the first order and the last."""
        look = f"{shop.folder}/shop.json for the pids: kill -9 PID, then order once more"
        deaths = shop.deaths()
        if not deaths:
            return wrong(
                "no process was killed since the lab began (`kill` without -9 is no crash: the "
                "process finishes its work)",
                look,
            )
        placed_ms = [order.created_ms for order in confirmed] or [0]
        between = [each for each in deaths if min(placed_ms) < each.back_ms < max(placed_ms)]
        names = ", ".join(dict.fromkeys(each.instance for each in between or deaths))
        return judged(
            bool(between),
            f"killed between the first and the last of these orders: {names}",
            f"killed, but not between the first and the last of these orders: {names}",
            look,
        )

    async def _settled(self, shop: LocalShop) -> list[Order]:
        """The orders since the lab began, once they are settled or the shop has had its time."""
        orders: list[Order] = []

        async def are_settled() -> bool:
            snapshot, _ = await shop.books()
            orders[:] = [
                each for each in snapshot.orders.values() if each.created_ms >= shop.since_ms
            ]
            return all(order.is_settled for order in orders)

        try:
            await eventually(are_settled, "all orders are settled", _REST_SECONDS)
        except LabError:
            return orders
        return orders


async def _kill(shop: LocalShop, service: str) -> None:
    """Kills a process as a crash would, and waits until the runner has put another in its place."""
    killed = shop.running().of_service(service)[0]
    os.kill(killed.pid, signal.SIGKILL)

    async def is_back() -> bool:
        return shop.running().of_service(service)[0].pid != killed.pid

    await eventually(is_back, f"{service} is back", _BACK_SECONDS)


LAB = Lab(
    Path(__file__).parent,
    local=PayOnce(),
    not_in={
        "istio": "it is about processes of one machine; 09 has the same question in a mesh",
        "linkerd": "it is about processes of one machine; 09 has the same question in a mesh",
    },
    hints=(
        "`shop.json` in the shop's data folder has the pid of every process. The start has printed "
        "the folder. The commands of README.md place an order.",
        "`kill PID` lets a process finish its work. A crash comes without warning: `kill -9 PID`.",
        "If you lose the answer to an order, send the order again with the same idempotency key. "
        "Another order needs another key. So place an order, kill `payment` with `kill -9 PID`, "
        "and place four more.",
    ),
)
