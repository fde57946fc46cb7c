"""The sides of a measurement: the floor, and shops with several ways of tracing, side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from services.local.programs import SANDBOX
from tests.bench.floor.derive import derived_plan
from tests.bench.floor.floor import running_floor
from tests.bench.floor.plan import STRIPE, Plan
from tests.bench.journeys import PreparedRequest, ShopJourney, shop_journeys
from tests.bench.rounds import MeasuredSide
from tests.bench.shops import measured_shop
from tests.testkit.shop import Shop

FLOOR = "floor"


@contextlib.contextmanager
def opened_sides(
    folder: Path, tracings: Sequence[str]
) -> Generator[tuple[Plan, Sequence[MeasuredSide]]]:
    """Derives the floor's plan and runs all sides; the floor is the first.

    :param folder: for their data; it exists.
    """
    plan = asyncio.run(derived_plan(folder))
    with contextlib.ExitStack() as running:
        floor = running.enter_context(running_floor(plan, folder / "floor"))
        sides: list[MeasuredSide] = []
        for number, tracing in enumerate(tracings):
            shop = running.enter_context(measured_shop(folder / f"shop-{number}", tracing=tracing))
            sides.append(side_of(tracing, shop, asyncio.run(shop_journeys(shop.url))))
        journeys = floor_journeys(plan, sides[0].journeys)
        yield plan, [MeasuredSide(FLOOR, floor.url, floor.pids, journeys), *sides]


def floor_journeys(plan: Plan, journeys: Mapping[str, ShopJourney]) -> Mapping[str, ShopJourney]:
    """Returns the same requests, with the paths of the floor."""
    return {
        name: replace(
            journey,
            requests=tuple(
                PreparedRequest(
                    request.method,
                    f"/{plan.journeys[name].id}",
                    headers=request.headers,
                    body=request.body,
                    is_keyed=request.is_keyed,
                )
                for request in journey.requests
            ),
        )
        for name, journey in journeys.items()
    }


def side_of(name: str, shop: Shop, journeys: Iterable[ShopJourney]) -> MeasuredSide:
    """Returns the side that a running shop is."""
    return MeasuredSide(
        name=name,
        url=shop.url,
        pids={
            STRIPE if process.service == SANDBOX else process.instance: process.pid
            for process in shop.processes()
        },
        journeys={journey.name: journey for journey in journeys},
    )
