"""Calls to other services over HTTP: only those that the topology declares."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from services.common import call_record, context, error_codes
from services.common.calls.outgoing import CallTools, Outcome, observed, with_retries
from services.common.calls.round_robin import RoundRobin
from services.common.errors import Kind, ShopError
from services.common.observing.telemetry import inject_trace
from services.common.protocols.problem import problem_to_error
from services.common.topology import Edge, HttpCall, undeclared

_MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A callee's answer with a status below 400."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """The body as JSON.

        :raises ShopError: UNAVAILABLE, when it is none: whoever answered was not the service.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ShopError(
                Kind.UNAVAILABLE, error_codes.BAD_ANSWER, "An answer could not be read."
            ) from error


class HttpEdge:
    """All HTTP calls from this process to one callee.

    :param addresses: ``host:port`` of every instance; they take turns (see :class:`RoundRobin`),
        and one that refuses the connection is passed over for the next, since a request that was
        never sent can be sent again.
    """

    def __init__(
        self, edge: Edge, addresses: Sequence[str], session: aiohttp.ClientSession, tools: CallTools
    ) -> None:
        self.edge = edge
        self.instances = RoundRobin(addresses)
        self.session = session
        self.tools = tools

    def route(self, method: str, path: str) -> HttpRoute:
        """Binds one declared call.

        :raises ConfigurationError: the topology does not declare it.
        """
        for call in self.edge.http:
            if call.method == method and call.path == path:
                return HttpRoute(self, call)
        raise undeclared(self.tools.caller, f"{self.edge.callee}'s {method} {path}")


class HttpRoute:
    """One HTTP call: ``reply = await route(path={"order_id": "…"}, json={…})``."""

    def __init__(self, edge: HttpEdge, call: HttpCall) -> None:
        self._edge = edge
        self._call = call

    async def __call__(
        self,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpReply:
        """Makes the call.

        :raises ShopError: what the callee answered, or UNAVAILABLE / TIMEOUT when it did not.
        """
        edge = self._edge
        return await with_retries(
            edge.tools.guard(edge.edge.callee),
            self._call.client_retries,
            lambda is_retry: self._attempt(path or {}, query or {}, json, headers or {}, is_retry),
        )

    async def _attempt(
        self,
        path: Mapping[str, str],
        query: Mapping[str, str | int],
        json: Any,
        headers: Mapping[str, str],
        is_retry: bool,
    ) -> HttpReply:
        request = context.current()
        edge = self._edge
        callee = edge.edge.callee
        timeout_seconds = self._call.timeout_ms / 1000
        allowance_seconds = request.allowance(timeout_seconds)
        target = re.sub(
            r"\{([a-z_]+)\}", lambda found: _segment(path[found.group(1)]), self._call.path
        )
        with observed(
            edge.tools,
            callee=callee,
            operation=self._call.operation,
            protocol="http",
            is_retry=is_retry,
            is_cut_short=allowance_seconds < timeout_seconds,
        ) as outcome:
            sent = {**request.headers(allowance_seconds), **headers}
            if request.token is not None:
                sent.setdefault("authorization", f"Bearer {request.token}")
            body = None
            if json is not None:
                body = orjson.dumps(json)
                sent["content-type"] = "application/json"
            inject_trace(sent)
            try:
                async with asyncio.timeout(allowance_seconds):
                    return await self._send(target, query, body, sent, outcome)
            except TimeoutError as error:
                raise ShopError(
                    Kind.TIMEOUT, f"{callee}-timeout", f"{callee} did not answer in time."
                ) from error
            except aiohttp.ClientError as error:
                raise ShopError(
                    Kind.UNAVAILABLE,
                    f"{callee}-unavailable",
                    f"{callee} cannot be reached.",
                    retry_after_seconds=1,
                ) from error

    async def _send(
        self,
        target: str,
        query: Mapping[str, str | int],
        body: bytes | None,
        headers: Mapping[str, str],
        outcome: Outcome,
    ) -> HttpReply:
        edge = self._edge
        addresses = edge.instances.in_turn()
        for address in addresses:
            try:
                async with edge.session.request(
                    self._call.method,
                    URL(f"http://{address}{target}", encoded=True),
                    params=query,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                ) as response:
                    return await self._read(response, outcome)
            except aiohttp.ClientConnectorError:
                if address == addresses[-1]:
                    raise
        raise AssertionError("unreachable: an edge has at least one address")

    async def _read(self, response: aiohttp.ClientResponse, outcome: Outcome) -> HttpReply:
        callee = self._edge.edge.callee
        if (response.content_length or 0) > _MAX_ANSWER_BYTES:
            raise ShopError(
                Kind.UNAVAILABLE, error_codes.BAD_ANSWER, f"The answer of {callee} is too large."
            )
        body = await response.read()
        outcome.served = call_record.decode(response.headers.get(call_record.HEADER))
        outcome.status = str(response.status)
        if response.status >= 400:
            raise problem_to_error(
                response.status, body, callee, response.headers.get("retry-after")
            )
        return HttpReply(response.status, body, response.headers)


def _segment(value: str) -> str:
    """A value as one segment of a path.

    :raises ShopError: NOT_FOUND for one that leads to another path (RFC 3986 §5.2.4).
    """
    if value in {"", ".", ".."}:
        raise ShopError(Kind.NOT_FOUND, "not-found", "There is no such thing.")
    return quote(value, safe="")
