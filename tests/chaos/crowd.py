"""Customers who place orders, many at once, and do all that customers do to a shop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from sys import intern

import aiohttp
import orjson

from tests.chaos.account import Account, Reply
from tests.chaos.checkout import Behaviour, Checkout
from tests.chaos.journal import UNDECIDED, Asked, Entry, Journal, Told

_VISIT_SECONDS = 10.0
_MAX_ATTEMPTS = 6
_WATCH_SECONDS = 3.0
_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.05, 0.5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0

_END_STATES = frozenset({"confirmed", "cancelled"})


class Crowd:
    """A number of clients at once, each with an account, who share a number of checkouts.

    :param frontends: base URLs of all processes of the frontend.
    :param journal: where everything goes that they are told; its seed decides what they do.
    :param on_begin: called with the number of each checkout when it begins.
    :param codes: the codes of mailed links by address; None where nobody reads mails.
    """

    def __init__(
        self,
        frontends: Sequence[str],
        *,
        clients: int,
        checkouts: int,
        journal: Journal,
        on_begin: Callable[[int], None],
        codes: Mapping[str, str] | None = None,
    ) -> None:
        self._frontends = frontends
        self._clients = clients
        self._checkouts = checkouts
        self._journal = journal
        self._on_begin = on_begin
        self._codes = codes

    async def run(self) -> None:
        """Returns when all checkouts are over, for better or for worse."""
        numbers = iter(range(self._checkouts))
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
            ) as session,
            asyncio.TaskGroup() as clients,
        ):
            for client in range(self._clients):
                clients.create_task(self._shop(session, client, numbers))

    async def _shop(
        self, session: aiohttp.ClientSession, client: int, numbers: Iterator[int]
    ) -> None:
        chance = random.Random(f"{self._journal.seed}:client {client}")
        account = Account(session, self._frontends, chance, self._codes)
        await account.open()
        for number in numbers:
            checkout = Checkout.of(self._journal.seed, number)
            entry = self._journal.begin(checkout, account.user_id)
            self._on_begin(number)
            await _Visit(account, checkout, entry, self._journal, chance).make()


class _Visit:
    """One checkout from the first request until its customer is content, or has had enough."""

    def __init__(
        self,
        account: Account,
        checkout: Checkout,
        entry: Entry,
        journal: Journal,
        chance: random.Random,
    ) -> None:
        self._account = account
        self._checkout = checkout
        self._entry = entry
        self._journal = journal
        self._chance = chance
        self._until_seconds = journal.seconds() + _VISIT_SECONDS
        self._body = orjson.dumps(checkout.body())

    async def make(self) -> None:
        """Places the order and does what its customer is like."""
        told = await self._begin()
        if told is None or _is_undecided(told):
            told = await self._insist(Asked.PLACE)
        if told.order_id is None:
            return  # as far as this customer knows there is no order
        if told.status == 202:
            told = await self._watch()
        match self._checkout.behaviour:
            case Behaviour.REUSES_KEY:
                await self._insist(Asked.PLACE_OTHER)
            case Behaviour.CANCELS if told.state == "confirmed":
                await self._cancel()
            case Behaviour.CANCELS_TWICE if told.state == "confirmed":
                await asyncio.gather(self._cancel(), self._cancel())
            case Behaviour.LOOKS:
                await self._ask(Asked.LOOK)
            case _:
                pass

    async def _begin(self) -> Told | None:
        """What comes before a customer begins to insist, and what came of it."""
        match self._checkout.behaviour:
            case Behaviour.IMPATIENT:
                return await self._ask(Asked.PLACE, self._checkout.patience_seconds)
            case Behaviour.DOUBLED:
                both = await asyncio.gather(self._ask(Asked.PLACE), self._ask(Asked.PLACE))
                return max(both, key=lambda told: told.order_id is not None)
            case _:
                return None

    async def _cancel(self) -> None:
        if (await self._insist(Asked.CANCEL)).status == 202:
            await self._watch()
        else:
            await self._ask(Asked.LOOK)

    async def _insist(self, asked: Asked) -> Told:
        """Repeats a request until the shop has decided, or until it has been enough."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        attempts = 0
        while True:
            told, reply = await self._exchange(asked, self._left_seconds)
            attempts += 1
            jittered_seconds = pause_seconds * self._chance.uniform(0.5, 1.0)
            wait_seconds = max(reply.retry_after_seconds, jittered_seconds)
            had_enough = attempts == _MAX_ATTEMPTS or wait_seconds > self._left_seconds
            if had_enough or not _is_undecided(told):
                return told
            await asyncio.sleep(wait_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _watch(self) -> Told:
        """Looks at an order that is being worked on until it is settled, for a while."""
        until_seconds = min(self._until_seconds, self._journal.seconds() + _WATCH_SECONDS)
        pause_seconds = _FIRST_LOOK_SECONDS
        while True:
            told = await self._ask(Asked.LOOK)
            if told.state in _END_STATES or self._journal.seconds() > until_seconds:
                return told
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_LOOK_SECONDS)

    async def _ask(self, asked: Asked, within_seconds: float | None = None) -> Told:
        left_seconds = self._left_seconds if within_seconds is None else within_seconds
        told, _ = await self._exchange(asked, left_seconds)
        return told

    async def _exchange(self, asked: Asked, within_seconds: float) -> tuple[Told, Reply]:
        """One request and its answer, which goes into the journal."""
        sent_seconds = self._journal.seconds()
        reply = await self._request(asked, within_seconds)
        told = _told(self._entry, asked, sent_seconds, self._journal.seconds(), reply)
        self._entry.answers.append(told)
        return told, reply

    async def _request(self, asked: Asked, within_seconds: float) -> Reply:
        path = f"/api/orders/{self._entry.order_id}"
        match asked:
            case Asked.LOOK:
                return await self._account.send("GET", path, within_seconds=within_seconds)
            case Asked.CANCEL:
                return await self._account.send(
                    "POST", f"{path}/cancel", within_seconds=within_seconds
                )
            case Asked.PLACE | Asked.PLACE_OTHER:
                is_other = asked is Asked.PLACE_OTHER
                return await self._account.send(
                    "POST",
                    "/api/orders",
                    body=orjson.dumps(self._checkout.other_body()) if is_other else self._body,
                    headers={
                        "content-type": "application/json",
                        "idempotency-key": self._checkout.key,
                    },
                    within_seconds=within_seconds,
                )

    @property
    def _left_seconds(self) -> float:
        return max(0.0, self._until_seconds - self._journal.seconds())


def _is_undecided(told: Told) -> bool:
    """Whether the same request again makes sense. An answer that names the order is the shop's
    decision, also when that was to give up (503).
    """
    return told.status in UNDECIDED and told.order_id is None


def _told(
    entry: Entry, asked: Asked, sent_seconds: float, answered_seconds: float, reply: Reply
) -> Told:
    """What a reply says: an order, or a problem that may name one. Words are interned, since there
    are few different ones.
    """
    body = reply.body
    order_id = body.get("order_id") or body.get("fields", {}).get("order_id")
    state, reason = body.get("state"), body.get("reason")
    word = reason["code"] if reason else body.get("code") or reply.broke
    return Told(
        asked,
        sent_seconds,
        answered_seconds,
        reply.status,
        order_id=entry.order_id if order_id == entry.order_id else order_id,
        state=intern(state) if state else None,
        reason=intern(word) if word else None,
        total_cents=body.get("total_cents"),
    )
