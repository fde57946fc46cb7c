"""The board as a page on this machine, which reads the cluster every few seconds.

``/?live`` reloads itself. ``/`` does not: a screen reader would begin again at each reload.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from classroom.board import Row
from labs.errors import LabError

Look = Callable[[], Awaitable[Sequence[Row]]]

HERE = Path(__file__).parent
_STATIC = HERE.parent / "services" / "frontend" / "static"
_STYLES = {"base.css": _STATIC / "base.css", "board.css": HERE / "board.css"}

LOOK_SECONDS = 3.0
_REFRESH_SECONDS = 5
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Against DNS rebinding: a request for another host is refused.
_HOSTS = {"127.0.0.1", "localhost"}

_TEMPLATE = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("page.html.j2")


@dataclass(slots=True)
class Seen:
    """The class when it was last read.

    :ivar at: in seconds of `time.monotonic`; None before the first time.
    :ivar problem: why the last reading failed; empty if it did not.
    """

    rows: Sequence[Row] = ()
    at: float | None = None
    problem: str = ""


@dataclass(slots=True)
class Board:
    """Reads the class, and serves it as a page.

    :param look: returns the rows; may raise LabError.
    """

    look: Look
    seen: Seen = field(default_factory=Seen)

    async def look_once(self) -> None:
        """Reads the class. After a failure the page keeps showing what was read before."""
        try:
            self.seen = Seen(await self.look(), time.monotonic())
        except LabError as error:
            self.seen.problem = str(error)

    def application(self) -> web.Application:
        """Returns the application that serves the page and its style sheets."""
        application = web.Application(middlewares=[_only_from_here])
        application.router.add_get("/", self._page)
        application.router.add_get("/{name}", _style)
        return application

    async def _page(self, request: web.Request) -> web.Response:
        is_live = "live" in request.query
        seen = self.seen
        text = _TEMPLATE.render(
            rows=seen.rows,
            problem=seen.problem,
            seconds=None if seen.at is None else round(time.monotonic() - seen.at),
            refresh_seconds=_REFRESH_SECONDS if is_live else None,
        )
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def look_on(self) -> None:
        """Reads the class every few seconds until it is cancelled."""
        while True:
            await self.look_once()
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def served(board: Board, port: int) -> AsyncGenerator[str]:
    """Serves the page on the loopback address. Yields its URL.

    :param port: 0 for a free one.
    :raises LabError: the port cannot be used.
    """
    runner = web.AppRunner(board.application())
    await runner.setup()
    looking = asyncio.create_task(board.look_on())
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            raise LabError(
                f"Port {port} cannot be used ({error.strerror}): choose another one with --port."
            ) from error
        chosen: int = runner.addresses[0][1]
        yield f"http://127.0.0.1:{chosen}"
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await runner.cleanup()


@web.middleware
async def _only_from_here(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    host = request.host.rpartition(":")[0] or request.host
    if host not in _HOSTS:
        raise web.HTTPMisdirectedRequest
    return await handler(request)


async def _style(request: web.Request) -> web.Response:
    file = _STYLES.get(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound
    text = file.read_text(encoding="utf-8")
    return web.Response(text=text, content_type="text/css", headers=_HEADERS)
