"""A client of the workload: a customer who gets through whatever goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping
from typing import Any

import aiohttp

from tests.chaos.history import NO_ANSWER
from tests.testkit.customer import Answer, Client, Customer, Person
from tests.testkit.waiting import eventually

_SIGN_IN_SECONDS = 120.0  # an outage may last that long
_REQUEST_SECONDS = 5.0
_PAUSE_SECONDS = (0.05, 0.5)


async def answered(request: Awaitable[Answer], within_seconds: float = _REQUEST_SECONDS) -> Answer:
    """The answer to a request; with the status NO_ANSWER and how it broke off when there is none
    within that time, or within five seconds.
    """
    try:
        async with asyncio.timeout(min(within_seconds, _REQUEST_SECONDS)):
            return await request
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        return Answer(NO_ANSWER, None, {}, type(error).__name__)


class PersistentCustomer(Customer):
    """A customer whose session outlives lapsed tokens and lost answers."""

    def __init__(self, client: Client, tokens: Mapping[str, Any], person: Person) -> None:
        super().__init__(client, tokens, person)
        self._refresh_token: str = tokens["refresh_token"]
        self._renewing = asyncio.Lock()

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **request: Any
    ) -> Answer:
        """One request in the customer's name, and once more when the token has lapsed."""
        token = self.token
        answer = await super().send(method, path, headers=headers, **request)
        if answer.status != 401:
            return answer
        await self._renew(token)
        return await super().send(method, path, headers=headers, **request)

    async def _renew(self, lapsed_token: str) -> None:
        """Gets new tokens, unless another request of this customer just did."""
        async with self._renewing:
            if self.token != lapsed_token:
                return
            body = {"refresh_token": self._refresh_token}
            answer = await self.client.send("POST", "/api/auth/refresh", json=body)
            if answer.status == 401:  # used already, by a request whose answer was lost
                answer = await log_in(self.client, self.person)
            if answer.status == 200:
                self.token = answer.body["access_token"]
                self._refresh_token = answer.body["refresh_token"]


async def registered(
    client: Client, chance: random.Random, codes: Mapping[str, str] | None = None
) -> PersistentCustomer:
    """Opens an account, and confirms its address where somebody reads mails.

    :param codes: what the mailbox of each address holds of links; None where nobody reads mails.
    :raises AssertionError: the shop takes nobody for minutes.
    """
    person = Person()

    async def register() -> PersistentCustomer | None:
        answer = await answered(
            client.send("POST", "/api/auth/register", json=person.registration())
        )
        if answer.status == 409:  # the answer to a former attempt was lost
            answer = await answered(log_in(client, person))
        if answer.status in {200, 201}:
            return PersistentCustomer(client, answer.body, person)
        await asyncio.sleep(chance.uniform(*_PAUSE_SECONDS))
        return None

    async def ask_for_link() -> bool:
        body = {"email": person.email}
        mailing = client.send("POST", "/api/auth/address/mail", json=body)
        return (await answered(mailing)).status == 202

    async def confirm() -> bool:
        code = codes and codes.get(person.email)
        if not code:
            return False
        confirming = client.send("POST", "/api/auth/address/confirm", json={"code": code})
        # Used already, when the answer to that was lost.
        return (await answered(confirming)).status in {204, 422}

    customer = await eventually(register, "somebody can register", _SIGN_IN_SECONDS)
    if codes is not None:
        # A process that dies after it has opened the account has asked for no link.
        await eventually(ask_for_link, "a link is asked for", _SIGN_IN_SECONDS)
        await eventually(confirm, "the address is confirmed", _SIGN_IN_SECONDS)
    return customer


async def log_in(client: Client, person: Person) -> Answer:
    """Begins a session."""
    return await client.send("POST", "/api/auth/login", json=person.credentials())
