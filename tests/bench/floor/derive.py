"""Derives the floor's plan: starts a shop that notes, sends it each journey a few times, and reads
its notes and its answers' call records.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from services.common import call_record
from services.common.topology import load_topology
from tests.bench.floor.plan import Hop, Names, Plan, Sizes, journey_hop, summed_up
from tests.bench.journeys import PreparedRequest, shop_journeys
from tests.bench.load import check_status
from tests.bench.meter import CpuMeter
from tests.bench.noting import Note, read_notes
from tests.bench.shops import measured_shop
from tests.testkit.shop import Shop

_TIMES = 5
# Under load a call for the stock serves hundreds of pages, so it is part of none of them.
_ENVIRONMENT = {"STOCK_MAX_AGE_SECONDS": "60"}


@dataclass(frozen=True, slots=True)
class _Seen:
    served: call_record.Served | None
    answer_bytes: int


async def derived_plan(folder: Path) -> Plan:
    """Returns the plan of all journeys.

    :param folder: for the noting shop; it exists.
    :raises WrongAnswer: of :mod:`tests.bench.load`.
    """
    notes = folder / "notes"
    program = ("-m", "tests.bench.noting", str(notes))
    async with measured_shop(folder / "shop", program=program, environment=_ENVIRONMENT) as shop:
        return await _derived(shop, notes)


async def _derived(shop: Shop, file: Path) -> Plan:
    processes = shop.processes()
    names = Names(
        load_topology(),
        services={process.pid: process.service for process in processes},
        ports={int(process.url.rpartition(":")[2]): process.service for process in processes},
    )
    meter = CpuMeter({process.instance: process.pid for process in processes})
    hops: dict[str, Hop] = {}
    for journey in await shop_journeys(shop.url):
        await _sent(shop.url, journey.requests, _TIMES)  # connections, keys and caches are there
        await asyncio.to_thread(meter.wait_quiet)
        before = len(read_notes(file))
        seen = await _sent(shop.url, journey.requests, _TIMES)
        await asyncio.to_thread(meter.wait_quiet)
        notes: Sequence[Note] = read_notes(file)[before:]
        request = journey.requests[0]
        mean_bytes = round(sum(each.answer_bytes for each in seen) / len(seen))
        hops[journey.name] = journey_hop(
            journey.name,
            f"{request.method} {request.path}",
            seen[-1].served,
            summed_up(notes, names, _TIMES),
            Sizes(len(request.body), mean_bytes),
        )
    return Plan(journeys=hops)


async def _sent(url: str, requests: Sequence[PreparedRequest], times: int) -> Sequence[_Seen]:
    seen: list[_Seen] = []
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for request in itertools.islice(itertools.cycle(requests), times):
            async with session.request(
                request.method,
                url + request.path,
                data=request.body or None,
                headers=request.headers_to_send(),
            ) as answer:
                body = await answer.read()
                check_status(request, answer.status, body)
                record = call_record.decode(answer.headers.get(call_record.HEADER))
                seen.append(_Seen(record, len(body)))
    return seen
