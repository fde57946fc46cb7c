"""``python -m services audit``: on one machine, and in a cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from services.audit.books import SERVICES, open_stores, read_snapshot
from services.audit.invariants import Violation, disagreements, notes
from services.audit.ledger import read_ledger
from services.audit.mending import Mending
from services.audit.snapshot import Snapshot
from services.common.clock import now_ms
from services.common.errors import ConfigurationError, ShopError
from services.common.settings import ProcessSettings, read_settings
from services.common.topology import load_topology
from services.local import data
from services.local.backup import databases_in, services_with_database
from services.local.data import Say
from services.local.plan import SANDBOX_KEY
from services.local.programs import SANDBOX
from services.payment.settings import PaymentSettings
from stand_ins.stripe.server import running
from stand_ins.stripe.settings import SandboxSettings

EXIT_DISAGREES = 1
_EXIT_UNKNOWN = 2

# What is seen twice, so long apart, is no order that was changed while it was read.
_PAUSE_SECONDS = 2.0
_MORE_ROUNDS = 3


def audit(folder: Path, say: Say, *, mend: bool) -> int:
    """Compares all stores and Stripe, and says what disagrees. Returns the exit status: 0 when
    nothing does, 1 when something does, 2 when it cannot be found out.

    Without a ``DATABASE_URL`` it is the shop on this machine whose data is in `folder`, be it open
    or closed.

    :raises ConfigurationError: there is no such shop, or a setting is wrong.
    """
    try:
        return asyncio.run(_audit(folder.resolve(), say, mend=mend))
    except ShopError as error:
        say(f"The shop cannot be audited: {error.detail}")
        return _EXIT_UNKNOWN


async def compared(folder: Path) -> tuple[Snapshot, list[Violation]]:
    """Everything that the shop on this machine has stored, and what disagrees.

    :param folder: where its data is, from the root on.
    :raises ConfigurationError: there is no such shop, or a setting is wrong.
    :raises ShopError: Stripe cannot be asked.
    """
    async with _opened(folder) as shop:
        return await _compared(shop)


@dataclass(frozen=True, slots=True)
class _Shop:
    """Where the shop's databases and Stripe are.

    :ivar is_closed: whether no process of it runs, nor can be started meanwhile.
    """

    process: ProcessSettings
    stripe: PaymentSettings
    is_closed: bool


async def _audit(folder: Path, say: Say, *, mend: bool) -> int:
    async with _opened(folder) as shop:
        snapshot, found = await _compared(shop)
        if mend:
            refusals = await _mend(shop, found)
            before = found
            snapshot, found = await _compared(shop)
            _say_what_was_mended(before, found, refusals, say)
            waiting = snapshot.waiting_messages()
            if shop.is_closed and waiting:
                say(f"{_counted(waiting, 'message')} to send once the shop is open.")
    for violation in found:
        say(str(violation))
    for note in notes(snapshot):
        say(note)
    messages = sum(len(ids) for ids in snapshot.message_ids.values())
    counts = (
        f"{len(snapshot.orders)} orders, {len(snapshot.reservations)} reservations, "
        f"{len(snapshot.payments)} payments, {len(snapshot.ledger.intents)} orders at Stripe, "
        f"{len(snapshot.shipments)} parcels and {messages} messages"
    )
    if snapshot.moving:
        say(f"Sold all the time, so not compared: {', '.join(sorted(snapshot.moving))}.")
    if not found:
        say(f"{counts}: nothing disagrees.")
        return 0
    is_mendable = not mend and not all(each.by_hand for each in found)
    advice = " --mend mends what can be mended safely." if is_mendable else ""
    say(f"{counts}: {_counted(len(found), 'disagreement')}.{advice}")
    return EXIT_DISAGREES


async def _compared(shop: _Shop) -> tuple[Snapshot, list[Violation]]:
    """Everything as it was last read, and what disagreed in the last two rounds."""
    async with open_stores(shop.process.database_url) as stores:

        async def look() -> tuple[Snapshot, list[Violation]]:
            snapshot = await read_snapshot(stores, lambda: read_ledger(shop.stripe))
            return snapshot, list(disagreements(snapshot, now_ms()))

        snapshot, found = await look()
        if shop.is_closed:
            return snapshot, found
        lasting = found
        for _ in range(_MORE_ROUNDS):
            if not found and not snapshot.moving:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
            before = found
            snapshot, found = await look()
            lasting = [each for each in found if each in before]
            if not snapshot.moving:
                break
        return snapshot, lasting


async def _mend(shop: _Shop, found: list[Violation]) -> dict[str, str]:
    """Repeats what the orders have behind them. Returns what was refused, by order."""
    refusals: dict[str, str] = {}
    async with AsyncExitStack() as resources:
        mending = await Mending.open(load_topology(), shop.process, shop.stripe, resources)
        for subject in _subjects(found):
            if not subject.startswith("ord_"):
                continue  # a product: only a person can count it
            if (refusal := await mending.mend(subject)) is not None:
                refusals[subject] = refusal
        if shop.is_closed:
            refusals |= await mending.mend_unfinished()
    return refusals


def _say_what_was_mended(
    before: list[Violation], after: list[Violation], refusals: dict[str, str], say: Say
) -> None:
    still = _subjects(after)
    for subject in _subjects(before):
        if subject not in still:
            say(f"mended: {subject}")
    for subject in dict.fromkeys((*still, *refusals)):
        reasons = [refusals[subject]] if subject in refusals else []
        reasons += [each.by_hand for each in after if each.subject == subject and each.by_hand]
        why = "; ".join(dict.fromkeys(reasons)) or "its steps were repeated, which did not help"
        say(f"not mended: {subject}: {why}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _subjects(violations: list[Violation]) -> dict[str, None]:
    """The orders and products that they are about, each once."""
    return dict.fromkeys(violation.subject for violation in violations)


@asynccontextmanager
async def _opened(folder: Path) -> AsyncGenerator[_Shop]:
    if os.environ.get("DATABASE_URL"):
        yield _Shop(read_settings(ProcessSettings), read_settings(PaymentSettings), is_closed=False)
        return
    databases_in(folder, {*SERVICES, *services_with_database(data.running_services(folder))})
    process = ProcessSettings(database_url=f"sqlite:///{folder}")
    with data.held(folder) as is_closed:
        if os.environ.get("STRIPE_API_KEY"):
            yield _Shop(process, read_settings(PaymentSettings), is_closed)
        elif is_closed:
            databases_in(folder, [SANDBOX])  # which would else begin an empty one
            async with running(SandboxSettings(port=0, data_dir=folder)) as url:
                yield _Shop(process, _sandbox_at(url), is_closed)
        elif (url := data.url_of(folder, SANDBOX)) is not None:
            yield _Shop(process, _sandbox_at(url), is_closed)
        else:
            raise ConfigurationError(
                "The shop pays at Stripe itself: set STRIPE_API_KEY to its test key."
            )


def _sandbox_at(url: str) -> PaymentSettings:
    return PaymentSettings(stripe_api_key=SecretStr(SANDBOX_KEY), stripe_api_base=url)
