"""What a running shop holds and has done: memory, connections, bytes on disk, requests served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from services.common.documents import Documents
from services.local.programs import SANDBOX
from services.order.model import Order
from tests.testkit.metrics import requests_served
from tests.testkit.shop import Shop

PARENT = "(parent)"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one process holds.

    Of a page that n processes share, `own_bytes` and `pss_bytes` count 1/n in each, so their sums
    over the shop's processes are what the shop takes. `own_bytes` leaves out the pages of files
    (programs and libraries): those cannot leak, and how many there are in `pss_bytes` depends on
    what else runs on the machine.
    """

    pid: int
    own_bytes: int
    pss_bytes: int
    rss_bytes: int
    open_files: int
    connections: int
    threads: int


def footprints(shop: Shop) -> dict[str, Footprint]:
    """Every process of a shop by its name, the runner's own too. Linux only."""
    pids = {process.instance: process.pid for process in shop.processes()}
    return {name: _footprint(pid) for name, pid in {**pids, PARENT: shop.parent.pid}.items()}


def _footprint(pid: int) -> Footprint:
    process = psutil.Process(pid)
    memory_bytes = _memory_bytes(pid)
    return Footprint(
        pid=pid,
        own_bytes=memory_bytes["Pss_Anon"],
        pss_bytes=memory_bytes["Pss"],
        rss_bytes=memory_bytes["Rss"],
        open_files=process.num_fds(),
        connections=len(process.net_connections("tcp")),
        threads=process.num_threads(),
    )


def _memory_bytes(pid: int) -> dict[str, int]:
    """By the kernel's names (proc_pid_smaps(5)); psutil does not tell anonymous from file pages."""
    _, *lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return {name: 1024 * int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}


def store_bytes(shop: Shop) -> dict[str, int]:
    """The size of each service's SQLite database, as far as it has got into its file."""
    return {file.stem: file.stat().st_size for file in sorted(shop.data.glob("*.db"))}


def wal_bytes(shop: Shop) -> dict[str, int]:
    """The size of each database's write-ahead log, which is used again and again."""
    return {file.stem: file.stat().st_size for file in sorted(shop.data.glob("*.db-wal"))}


def log_bytes(shop: Shop) -> int:
    """The size of all log files."""
    return sum(file.stat().st_size for file in (shop.data / "logs").glob("*.log"))


async def served(
    session: aiohttp.ClientSession, shop: Shop, *, without: str = ""
) -> dict[str, Counter[str]]:
    """How many requests each service has been asked to serve since it started, by operation. Probes
    and scrapes do not count.

    :param without: a service that cannot be asked now.
    """
    found: dict[str, Counter[str]] = {}
    for process in shop.processes():
        if process.service != without:
            read = _stripe_requests if process.service == SANDBOX else requests_served
            found.setdefault(process.service, Counter()).update(
                await read(session, process.internal_url)
            )
    return found


async def _stripe_requests(session: aiohttp.ClientSession, url: str) -> Counter[str]:
    async with session.get(f"{url}/sandbox/ledger", params={"limit": 1}) as response:
        ledger = await response.json()
    return Counter(ledger["requests"])


async def is_quiet(orders: Documents[Order]) -> bool:
    """Whether no order has anything left to do or to tell."""
    return not (await orders.find("unfinished", limit=1)).items


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
