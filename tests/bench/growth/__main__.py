"""Measures how cost grows with products, stored orders and replicas, and writes these tables of
docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.growth.shops import GrownShop, with_orders, with_products, with_replicas
from tests.bench.load import generator
from tests.bench.meter import needs_linux
from tests.bench.performance import FOLDER, PAGE
from tests.bench.report import head, row, surroundings, with_part
from tests.bench.rounds import Findings, measure

BEGIN = "<!-- growth: made by `make bench-growth` -->\n"
END = "<!-- end of growth -->\n"


@dataclass(frozen=True, slots=True)
class Growth:
    """A property of the shop that grows.

    :ivar sizes: from small to large.
    :ivar opened: runs a shop of a size in a folder.
    :ivar shown_memory: the instances whose memory is a row of the table, beside that of all.
    """

    title: str
    sizes: Sequence[int]
    opened: Callable[[Path, int], AbstractAsyncContextManager[GrownShop]]
    shown_memory: Sequence[str] = ()


async def table_of(growth: Growth, rounds: int, seconds: float, connections: int) -> str:
    """Runs a shop of each size side by side, and returns the table."""
    folder = FOLDER / "growth"
    shutil.rmtree(folder, ignore_errors=True)
    print(growth.title, flush=True)
    async with AsyncExitStack() as running:
        shops: list[GrownShop] = []
        for size in growth.sizes:
            print(f"  a shop with {size:,}", flush=True)
            opened = growth.opened(folder / f"{size}", size)
            shops.append(await running.enter_async_context(opened))
        sides = [shop.side for shop in shops]
        with generator() as sending:
            findings = await asyncio.to_thread(
                measure,
                sides,
                sending,
                rounds=rounds,
                seconds=seconds,
                connections=connections,
                with_latencies=[side.name for side in sides],
                say=lambda text: print(f"  {text}", flush=True),
            )
        return "\n".join(_lines(growth, shops, findings))


def _lines(growth: Growth, shops: Sequence[GrownShop], findings: Findings) -> Iterator[str]:
    names = [shop.side.name for shop in shops]
    yield from head(growth.title, *names, "last / first")
    for name, journey in shops[0].side.journeys.items():
        found = [findings.cpu_ms(name, side).median for side in names]
        p50 = [findings.latency_ms(name, side, 50).median for side in names]
        cells = [f"{ms:.2f} ms, p50 {late:.1f} ms" for ms, late in zip(found, p50, strict=True)]
        yield row(journey.about, *cells, f"{found[-1] / found[0]:.2f}")
    memory = [shop.memory_mib() for shop in shops]
    for instance in growth.shown_memory:
        mib = [found[instance] for found in memory]
        yield row(
            f"memory of {instance}", *(f"{each:.0f} MiB" for each in mib), f"{mib[-1] / mib[0]:.2f}"
        )
    mib = [sum(found.values()) for found in memory]
    yield row("memory of all", *(f"{each:.0f} MiB" for each in mib), f"{mib[-1] / mib[0]:.2f}")


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=_sizes, default=[66, 6_600, 66_000], metavar="N,…")
    parser.add_argument("--orders", type=_sizes, default=[0, 100_000, 1_000_000], metavar="N,…")
    parser.add_argument("--replicas", type=_sizes, default=[1, 2, 4], metavar="N,…")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--dry-run", action="store_true", help="print, and leave the page")
    arguments = parser.parse_args()
    needs_linux()
    growths = (
        Growth("products", arguments.products, with_products, ("product", "inventory")),
        Growth("orders stored", arguments.orders, with_orders, ("order",)),
        Growth("replicas of each service", arguments.replicas, with_replicas),
    )
    parts = [f"{surroundings('bench-growth')}"]
    for growth in growths:
        if growth.sizes:
            table = table_of(growth, arguments.rounds, arguments.seconds, arguments.connections)
            parts.append(asyncio.run(table))
    part = "\n\n".join(parts) + "\n"
    print(part)
    if not arguments.dry_run:
        PAGE.write_text(with_part(PAGE.read_text("utf-8"), part, BEGIN, END), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
