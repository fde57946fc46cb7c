"""One client's way to the shop: an account, and requests in its name to any of the frontends."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp
import orjson

from tests.chaos.journal import NO_ANSWER
from tests.testkit.customer import PASSWORD, claims_of
from tests.testkit.waiting import eventually

_SIGN_IN_SECONDS = 120.0  # an outage may last that long
_REQUEST_SECONDS = 5.0
_PAUSE_SECONDS = (0.05, 0.5)
_JSON = {"content-type": "application/json"}


class Reply(NamedTuple):
    """An HTTP answer.

    :ivar status: NO_ANSWER when the request broke off.
    :ivar body: its JSON when that is an object, else nothing.
    :ivar broke: how it broke off.
    """

    status: int
    body: Mapping[str, Any] = {}
    retry_after_seconds: float = 0.0
    broke: str | None = None


class Account:
    """A customer's account, opened at first use and kept through lost answers and lapsed tokens.

    :param frontends: base URLs; requests take turns.
    :param codes: what the mailbox of each address holds of links; None where nobody reads mails.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        frontends: Sequence[str],
        chance: random.Random,
        codes: Mapping[str, str] | None = None,
    ) -> None:
        self.user_id = ""
        self._session = session
        self._chance = chance
        self._codes = codes
        self._frontends = itertools.cycle(chance.sample(frontends, len(frontends)))
        self._email = f"{uuid.uuid4().hex}@example.com"
        self._access_token = ""
        self._refresh_token = ""
        self._signing_in = asyncio.Lock()

    async def open(self) -> None:
        """Makes sure that there is an account, and that it gets its mails.

        :raises AssertionError: the shop takes nobody for minutes.
        """
        if not self.user_id:
            await eventually(self._register, "somebody can register", _SIGN_IN_SECONDS)
            if self._codes is not None:
                # A process that dies after it has opened the account has asked for no link.
                await eventually(self._ask_for_link, "a link is asked for", _SIGN_IN_SECONDS)
                await eventually(self._confirm, "the address is confirmed", _SIGN_IN_SECONDS)

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        within_seconds: float = _REQUEST_SECONDS,
    ) -> Reply:
        """One request in the customer's name, and once more when the token has lapsed."""
        until = asyncio.get_running_loop().time() + min(within_seconds, _REQUEST_SECONDS)
        token = self._access_token
        reply = await self._send(method, path, body, self._signed(headers), until)
        if reply.status != 401:
            return reply
        await self._renew(token, until)
        return await self._send(method, path, body, self._signed(headers), until)

    def _signed(self, headers: Mapping[str, str] | None) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self._access_token}", **(headers or {})}

    async def _register(self) -> bool:
        until = asyncio.get_running_loop().time() + _REQUEST_SECONDS
        who = {"email": self._email, "password": PASSWORD, "name": "Ada Lovelace"}
        reply = await self._post("/api/auth/register", who, until)
        if reply.status == 409:  # the answer to a former attempt was lost
            reply = await self._log_in(until)
        if reply.status not in {200, 201}:
            await asyncio.sleep(self._chance.uniform(*_PAUSE_SECONDS))
            return False
        self._take(reply)
        self.user_id = claims_of(self._access_token)["sub"]
        return True

    async def _ask_for_link(self) -> bool:
        until = asyncio.get_running_loop().time() + _REQUEST_SECONDS
        return (
            await self._post("/api/auth/address/mail", {"email": self._email}, until)
        ).status == 202

    async def _confirm(self) -> bool:
        assert self._codes is not None
        code = self._codes.get(self._email)
        if code is None:
            return False
        until = asyncio.get_running_loop().time() + _REQUEST_SECONDS
        reply = await self._post("/api/auth/address/confirm", {"code": code}, until)
        return reply.status in {204, 422}  # used already, when the answer to that was lost

    async def _renew(self, lapsed_token: str, until: float) -> None:
        """Gets new tokens, unless another request of this customer just did."""
        async with self._signing_in:
            if self._access_token != lapsed_token:
                return
            reply = await self._post(
                "/api/auth/refresh", {"refresh_token": self._refresh_token}, until
            )
            if reply.status == 401:  # used already, by a request whose answer was lost
                reply = await self._log_in(until)
            if reply.status == 200:
                self._take(reply)

    async def _log_in(self, until: float) -> Reply:
        return await self._post(
            "/api/auth/login", {"email": self._email, "password": PASSWORD}, until
        )

    def _take(self, tokens: Reply) -> None:
        self._access_token = tokens.body["access_token"]
        self._refresh_token = tokens.body["refresh_token"]

    async def _post(self, path: str, body: Mapping[str, str], until: float) -> Reply:
        return await self._send("POST", path, orjson.dumps(body), _JSON, until)

    async def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], until: float
    ) -> Reply:
        try:
            async with (
                asyncio.timeout_at(until),
                self._session.request(
                    method, next(self._frontends) + path, data=body, headers=headers
                ) as answer,
            ):
                text = await answer.read()
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            return Reply(NO_ANSWER, broke=type(error).__name__)
        retry_after = answer.headers.get("retry-after", "")
        return Reply(
            answer.status,
            orjson.loads(text) if text and "json" in answer.content_type else {},
            float(retry_after) if retry_after.isdecimal() else 0.0,
        )
