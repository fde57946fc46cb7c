"""The sides of a measurement: the floor, and shops with several ways of tracing, side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Mapping, Sequence
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
            sides.append(_shop_side(shop, tracing))
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


def _shop_side(shop: Shop, tracing: str) -> MeasuredSide:
    pids = {
        STRIPE if process.service == SANDBOX else process.service: process.pid
        for process in shop.processes()
    }
    journeys = asyncio.run(shop_journeys(shop.url))
    return MeasuredSide(
        name=tracing,
        url=shop.url,
        pids=pids,
        journeys={journey.name: journey for journey in journeys},
    )
