"""The nemesis: makes what is scheduled happen to a running shop, and heals it in the end."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import aiohttp
import psutil

from services.local.backup import copy_database
from services.local.data import Process
from tests.chaos.proxies import NO_FAULTS, Fault, Faults, Proxies, TcpFault
from tests.chaos.schedule import Incident, IncidentKind, Schedule
from tests.testkit.full_disk import full_disk, full_disk_for_all
from tests.testkit.mongodb import MongoServer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

_HEAL_SECONDS = 60.0
_PROBE_SECONDS = 2.0
_POLL_SECONDS = 0.2

_FAULTS_OF_EDGES: Mapping[IncidentKind, Fault | TcpFault] = {
    IncidentKind.RESET: TcpFault.RESET,
    IncidentKind.BLACK_HOLE: TcpFault.BLACK_HOLE,
    IncidentKind.DELAY: Fault.DELAY,
    IncidentKind.ERROR: Fault.ERROR,
    IncidentKind.LOST_REPLY: Fault.LOST_REPLY,
    IncidentKind.DUPLICATE: Fault.DUPLICATE,
    IncidentKind.LATE: Fault.LATE,
}


class Nemesis:
    """Lets things go wrong as checkouts begin.

    :param database: the MongoDB server when the shop runs on one.
    :ivar counts: how many incidents of each kind have really happened.
    :ivar restored: the services whose stores were put back.
    """

    def __init__(
        self,
        schedule: Schedule,
        shop: Shop,
        proxies: Proxies,
        http: aiohttp.ClientSession,
        database: MongoServer | None,
    ) -> None:
        self.counts = Counter[IncidentKind]()
        self.restored: set[str] = set()
        self._waiting = deque(schedule.incidents)
        self._shop = shop
        self._proxies = proxies
        self._http = http
        self._database = database
        self._begun: list[asyncio.Task[None]] = []
        self._healing = asyncio.Event()
        self._shop_as_a_whole = asyncio.Lock()
        # Two incidents of one target take turns, or the end of one would end the other.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._happen: Mapping[IncidentKind, Callable[[Incident], Awaitable[None]]] = {
            IncidentKind.KILL: self._kill,
            IncidentKind.PAUSE: self._pause,
            **dict.fromkeys(_FAULTS_OF_EDGES, self._befall_edge),
            IncidentKind.STRIPE: self._befall_stripe,
            IncidentKind.FULL_DISK: self._fill_disk,
            IncidentKind.FULL_MACHINE: self._fill_whole_disk,
            IncidentKind.PARENT_KILL: self._kill_parent,
            IncidentKind.RESTORE: self._restore,
            IncidentKind.DATABASE_KILL: self._kill_database,
            IncidentKind.DATABASE_PAUSE: self._pause_database,
        }

    def on_begin(self, checkout: int) -> None:
        """Begins the incidents that are due when this checkout begins.

        :raises Exception: what an incident has failed with: the run says nothing any more.
        """
        for task in self._begun:
            if task.done():
                task.result()
        while self._waiting and self._waiting[0].at_checkout <= checkout + 1:
            self._begun.append(asyncio.create_task(self._let_happen(self._waiting.popleft())))

    async def heal(self) -> None:
        """Ends all that goes on, and waits until every process is ready.

        :raises AssertionError: one does not get ready.
        """
        self._healing.set()
        await asyncio.gather(*self._begun)  # raises what one of them has failed with
        self._proxies.heal()
        for process in self._shop.processes():
            await eventually(lambda p=process: self._is_ready(p), process.instance, _HEAL_SECONDS)
        await self._proxies.drained()

    async def _let_happen(self, incident: Incident) -> None:
        async with self._turns[incident.target]:
            if not self._healing.is_set():
                await self._happen[incident.kind](incident)

    async def _last(self, incident: Incident, is_felt: Callable[[], bool] = lambda: True) -> None:
        """Waits for as long as an incident lasts and until it `is_felt`, or until all is healed."""
        await self._is_healing_within(incident.seconds)
        while not is_felt() and not await self._is_healing_within(_POLL_SECONDS):
            pass

    async def _is_healing_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._healing.wait()
        return self._healing.is_set()

    async def _kill(self, incident: Incident) -> None:
        process = await self._process_of(incident)
        process.kill()
        self.counts[incident.kind] += 1

    async def _pause(self, incident: Incident) -> None:
        process = await self._process_of(incident)
        process.suspend()
        self.counts[incident.kind] += 1
        await self._last(incident)
        with suppress(psutil.NoSuchProcess):  # it may have been killed meanwhile
            process.resume()

    async def _befall_edge(self, incident: Incident) -> None:
        """Lets a fault befall an edge for its time, and until it has met at least one request."""
        caller, callee = incident.target.split(" > ")
        edge = self._proxies.edge(caller, callee)
        fault = _FAULTS_OF_EDGES[incident.kind]
        before = edge.counts[fault]
        if fault is TcpFault.RESET:
            edge.tcp.resets_new = True
            edge.tcp.reset_connections()
        elif fault is TcpFault.BLACK_HOLE:
            edge.tcp.black_hole = True
        else:
            edge.faults = Faults(**{fault.name.lower(): incident.rate})
        self.counts[incident.kind] += 1
        try:
            await self._last(incident, lambda: edge.counts[fault] > before)
        finally:
            edge.tcp.heal()
            edge.faults = NO_FAULTS

    async def _befall_stripe(self, incident: Incident) -> None:
        rate = incident.rate / 4
        faults = {
            "delay_ms": 200,
            "delay_jitter_ms": 200,
            "rate_limit_rate": rate,
            "failure_rate": rate,
            "stored_failure_rate": rate,
            "lost_reply_rate": rate,
            "seed": incident.at_checkout,
        }
        # A shop that is just starting again has no sandbox yet.
        await eventually(
            lambda: self._set_stripe_faults(faults), "the sandbox takes faults", _HEAL_SECONDS
        )
        self.counts[incident.kind] += 1
        await self._last(incident)
        await eventually(lambda: self._set_stripe_faults({}), "the sandbox heals", _HEAL_SECONDS)

    async def _fill_disk(self, incident: Incident) -> None:
        process = await self._process_of(incident)
        with full_disk(process.pid):
            self.counts[incident.kind] += 1
            await self._last(incident)

    async def _fill_whole_disk(self, incident: Incident) -> None:
        async with self._shop_as_a_whole:
            with full_disk_for_all(self._shop.parent.pid):
                self.counts[incident.kind] += 1
                await self._last(incident)

    async def _kill_parent(self, incident: Incident) -> None:
        async with self._shop_as_a_whole:
            await asyncio.to_thread(self._shop.kill_parent)
            self.counts[incident.kind] += 1
            await self._open_again()

    async def _restore(self, incident: Incident) -> None:
        """Puts one store back to a copy as old as the incident is long, as an operator would: while
        the shop is stopped, and with an audit before it opens.
        """
        service = incident.target
        file = self._shop.data / f"{service}.db"
        copy = file.with_suffix(".copy")
        async with self._shop_as_a_whole:
            await asyncio.to_thread(copy_database, file, copy)
            await self._last(incident)
            await asyncio.to_thread(self._shop.stop)
            for old in file.parent.glob(f"{service}.db*"):
                old.unlink()
            copy.rename(file)
            self.counts[incident.kind] += 1
            self.restored.add(service)
            audit = await asyncio.to_thread(self._shop.audit, "--mend")
            assert audit.returncode == 0, f"after {incident}:\n{audit.stdout}{audit.stderr}"
            await self._open_again()

    async def _open_again(self) -> None:
        self._shop.launch()
        await asyncio.to_thread(self._shop.wait_open)
        self._proxies.point_at(self._shop.processes())

    async def _kill_database(self, incident: Incident) -> None:
        database = self._running_database()
        await asyncio.to_thread(database.kill)
        self.counts[incident.kind] += 1
        await self._last(incident)
        await asyncio.to_thread(database.start)

    async def _pause_database(self, incident: Incident) -> None:
        database = self._running_database()
        database.pause()
        self.counts[incident.kind] += 1
        await self._last(incident)
        database.resume()

    def _running_database(self) -> MongoServer:
        assert self._database is not None, "the schedule is for a shop on MongoDB"
        return self._database

    async def _process_of(self, incident: Incident) -> psutil.Process:
        """The instance's process, as soon as there is one: it may just be starting again."""

        async def look() -> psutil.Process | None:
            return self._running(incident.target)

        return await eventually(look, f"{incident.target} runs", _HEAL_SECONDS)

    def _running(self, instance: str) -> psutil.Process | None:
        if not self._shop.is_open:
            return None
        try:
            process = psutil.Process(self._shop.process(instance).pid)
            # A dead process's pid may have gone to anybody's.
            return process if process.ppid() == self._shop.parent.pid else None
        except psutil.NoSuchProcess:
            return None

    async def _set_stripe_faults(self, faults: Mapping[str, float]) -> bool:
        if not self._shop.is_open:
            return False
        url = f"{self._shop.sandbox_url}/sandbox/faults"
        try:
            async with (
                asyncio.timeout(_PROBE_SECONDS),
                self._http.post(url, json=faults) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _is_ready(self, process: Process) -> bool:
        try:
            async with (
                asyncio.timeout(_PROBE_SECONDS),
                self._http.get(f"{process.internal_url}/readyz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
