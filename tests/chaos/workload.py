"""The workload: many customers at once, who place orders and do all that customers do to a shop."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from sys import intern
from typing import Any

import aiohttp

from services.common.backoff import Backoff
from tests.chaos.checkout import Behaviour, Checkout
from tests.chaos.client import PersistentCustomer, answered, registered
from tests.chaos.history import Action, CheckoutHistory, History, Op
from tests.testkit.customer import Answer, Client

_VISIT_SECONDS = 10.0
_MAX_ATTEMPTS = 6
_WATCH_SECONDS = 3.0
_LOOKS = Backoff(first_seconds=0.05, longest_seconds=0.5)
_PAUSES = Backoff(first_seconds=0.1, longest_seconds=1.0)

_END_STATES = frozenset({"confirmed", "cancelled"})


class Workload:
    """A number of clients at once, each with an account, who share a number of checkouts.

    :param url: the shop's base URL.
    :param history: where all that they are told goes; its seed decides what they do.
    :param on_begin: called with the number of each checkout when it begins.
    :param codes: the codes of mailed links by address; None where nobody reads mails.
    """

    def __init__(
        self,
        url: str,
        *,
        clients: int,
        checkouts: int,
        history: History,
        on_begin: Callable[[int], None],
        codes: Mapping[str, str] | None = None,
    ) -> None:
        self._url = url
        self._clients = clients
        self._checkouts = checkouts
        self._history = history
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
                clients.create_task(self._shop(Client(session, self._url), client, numbers))

    async def _shop(self, client: Client, client_number: int, numbers: Iterator[int]) -> None:
        chance = random.Random(f"{self._history.seed}:client {client_number}")
        customer = await registered(client, chance, self._codes)
        for number in numbers:
            checkout = Checkout.of(self._history.seed, number)
            own = self._history.begin(checkout, customer.user_id)
            self._on_begin(number)
            await _Visit(customer, checkout, own, self._history, chance).make()


class _Visit:
    """One checkout from the first request until its customer is content, or has had enough."""

    def __init__(
        self,
        customer: PersistentCustomer,
        checkout: Checkout,
        own: CheckoutHistory,
        history: History,
        chance: random.Random,
    ) -> None:
        self._customer = customer
        self._checkout = checkout
        self._own = own
        self._history = history
        self._chance = chance
        self._until_seconds = history.seconds() + _VISIT_SECONDS

    async def make(self) -> None:
        """Places the order and does what its customer is like."""
        op = await self._begin()
        if op is None or op.is_undecided:
            op = await self._insist(Action.PLACE)
        if op.order_id is None:
            return  # as far as this customer knows there is no order
        if op.status == 202:
            op = await self._watch()
        match self._checkout.behaviour:
            case Behaviour.REUSES_KEY:
                await self._insist(Action.PLACE_OTHER)
            case Behaviour.CANCELS if op.state == "confirmed":
                await self._cancel()
            case Behaviour.CANCELS_TWICE if op.state == "confirmed":
                await asyncio.gather(self._cancel(), self._cancel())
            case Behaviour.LOOKS:
                await self._do(Action.LOOK)
            case _:
                pass

    async def _begin(self) -> Op | None:
        """What comes before a customer begins to insist, and what came of it."""
        match self._checkout.behaviour:
            case Behaviour.IMPATIENT:
                return await self._do(Action.PLACE, self._checkout.patience_seconds)
            case Behaviour.DOUBLED:
                both = await asyncio.gather(self._do(Action.PLACE), self._do(Action.PLACE))
                return max(both, key=lambda op: op.order_id is not None)
            case _:
                return None

    async def _cancel(self) -> None:
        if (await self._insist(Action.CANCEL)).status == 202:
            await self._watch()
        else:
            await self._do(Action.LOOK)

    async def _insist(self, action: Action) -> Op:
        """Repeats a request until the shop has decided, or until it has been enough."""
        for attempt in itertools.count(1):
            op, retry_after_seconds = await self._exchange(action, self._left_seconds)
            pause_seconds = _PAUSES.pause_seconds(attempt, self._chance.random())
            wait_seconds = max(retry_after_seconds, pause_seconds)
            had_enough = attempt == _MAX_ATTEMPTS or wait_seconds > self._left_seconds
            if had_enough or not op.is_undecided:
                return op
            await asyncio.sleep(wait_seconds)
        raise AssertionError("unreachable: the last attempt returns")

    async def _watch(self) -> Op:
        """Looks at an order that is being worked on until it is settled, for a while."""
        until_seconds = min(self._until_seconds, self._history.seconds() + _WATCH_SECONDS)
        for look in itertools.count(1):
            op = await self._do(Action.LOOK)
            if op.state in _END_STATES or self._history.seconds() > until_seconds:
                return op
            await asyncio.sleep(_LOOKS.pause_seconds(look))
        raise AssertionError("unreachable: the last look returns")

    async def _do(self, action: Action, within_seconds: float | None = None) -> Op:
        left_seconds = self._left_seconds if within_seconds is None else within_seconds
        op, _ = await self._exchange(action, left_seconds)
        return op

    async def _exchange(self, action: Action, within_seconds: float) -> tuple[Op, float]:
        """One operation, which goes into the history, and how long the shop wants to be left alone
        after it, in seconds.
        """
        sent_seconds = self._history.seconds()
        answer = await answered(self._request(action), within_seconds)
        op = _op(self._own.order_id, action, sent_seconds, self._history.seconds(), answer)
        self._own.ops.append(op)
        retry_after = answer.headers.get("retry-after", "")
        return op, float(retry_after) if retry_after.isdecimal() else 0.0

    def _request(self, action: Action) -> Awaitable[Answer]:
        checkout, customer = self._checkout, self._customer
        match action:
            case Action.LOOK:
                return customer.order(self._own.order_id)
            case Action.CANCEL:
                return customer.cancel(self._own.order_id)
            case Action.PLACE | Action.PLACE_OTHER:
                is_other = action is Action.PLACE_OTHER
                return customer.place(
                    checkout.other_items() if is_other else checkout.items,
                    payment_method=checkout.payment_method,
                    key=checkout.key,
                )

    @property
    def _left_seconds(self) -> float:
        return max(0.0, self._until_seconds - self._history.seconds())


def _op(
    expected_id: str, action: Action, sent_seconds: float, answered_seconds: float, answer: Answer
) -> Op:
    """What an answer says: an order, or a problem that may name one. Words are interned: there are
    few different ones.
    """
    body: dict[str, Any] = answer.body or {}
    order_id = body.get("order_id") or body.get("fields", {}).get("order_id")
    state, reason = body.get("state"), body.get("reason")
    word = reason["code"] if reason else body.get("code") or ("" if answer.status else answer.text)
    return Op(
        action,
        sent_seconds,
        answered_seconds,
        answer.status,
        order_id=expected_id if order_id == expected_id else order_id,
        state=intern(state) if state else None,
        reason=intern(word) if word else None,
        total_cents=body.get("total_cents"),
    )
