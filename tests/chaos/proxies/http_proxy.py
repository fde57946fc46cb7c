"""Passes HTTP requests on as they are: method, target, headers, status and body."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tests.chaos.proxies.faults import FaultInjector, InjectedError, ReplyLostError
from tests.chaos.proxies.relay import LOOPBACK

# RFC 9110 §7.6.1, and how the body is framed.
_OF_THIS_HOP = (
    hdrs.CONNECTION,
    hdrs.CONTENT_LENGTH,
    hdrs.KEEP_ALIVE,
    hdrs.TE,
    hdrs.TRAILER,
    hdrs.TRANSFER_ENCODING,
    hdrs.UPGRADE,
)
_ADDED_BY_CLIENT = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)
# Less than the servers' 75 s, so that none closes a connection that is just being used.
_IDLE_SECONDS = 60.0
# For callers that wait for ever: nothing may be under way for longer.
_LONGEST_SECONDS = 30.0
_SHUTDOWN_SECONDS = 1.0
_ERRORS = (500, 503)


@dataclass(frozen=True, slots=True)
class _HttpAnswer:
    status: int
    reason: str | None
    headers: CIMultiDict[str]
    body: bytes


_NOBODY_THERE = _HttpAnswer(503, None, CIMultiDict(), b"")


def open_session() -> aiohttp.ClientSession:
    """Connections to callees, for all proxies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_LONGEST_SECONDS),
        auto_decompress=False,
        skip_auto_headers=_ADDED_BY_CLIENT,
    )


class HttpProxy:
    """An HTTP server in front of all instances of a service."""

    def __init__(self, injector: FaultInjector, session: aiohttp.ClientSession) -> None:
        self._injector = injector
        self._session = session
        self._addresses: Sequence[str] = ()
        self._turns = itertools.count()
        self._runner = web.ServerRunner(
            web.Server(
                self._serve, handler_cancellation=True, access_log=None, auto_decompress=False
            ),
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    async def start(self) -> int:
        """Begins to listen; gives the port."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Ends all requests and listens no more."""
        await self._runner.cleanup()

    def point_at(self, addresses: Sequence[str]) -> None:
        """Tells where the instances are."""
        self._addresses = addresses

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        body = await request.content.read()

        async def forward() -> _HttpAnswer | None:
            return await self._forward(request.method, request.raw_path, request.headers, body)

        try:
            answer = await self._injector.send(forward)
        except InjectedError:
            return web.Response(status=self._injector.dice.choice(_ERRORS))
        except ReplyLostError:
            answer = None
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.Response(
            status=answer.status, reason=answer.reason, headers=answer.headers, body=answer.body
        )

    async def _forward(
        self, method: str, target: str, headers: CIMultiDictProxy[str], body: bytes
    ) -> _HttpAnswer | None:
        """The callee's answer; None when the connection broke.

        One that cannot be connected to is passed over for the next, as the callers do themselves.
        """
        addresses = self._addresses
        first = next(self._turns) % max(1, len(addresses))
        for address in (*addresses[first:], *addresses[:first]):
            try:
                async with self._session.request(
                    method,
                    URL(f"http://{address}{target}", encoded=True),
                    headers=_end_to_end(headers),
                    data=body or None,
                    allow_redirects=False,
                ) as answer:
                    return _HttpAnswer(
                        answer.status,
                        answer.reason,
                        _end_to_end(answer.headers),
                        await answer.read(),
                    )
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError):
                return None
        return _NOBODY_THERE


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    passed = CIMultiDict(headers)
    for name in _OF_THIS_HOP:
        passed.popall(name, None)
    return passed
