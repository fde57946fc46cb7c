"""The sandbox as a running server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.common.errors import ConfigurationError
from services.common.listening import open_listeners, with_port
from stand_ins.stripe.api import Api, Drop
from stand_ins.stripe.faults import SandboxFaultInjector
from stand_ins.stripe.sandbox import Sandbox
from stand_ins.stripe.settings import SandboxSettings
from stand_ins.stripe.store import Store

# Longer than clients keep idle connections, so that they never write into a closed one.
_KEEP_ALIVE_SECONDS = 75


@contextlib.asynccontextmanager
async def running(settings: SandboxSettings) -> AsyncGenerator[str]:
    """The sandbox's URL, while it answers there; on leaving, requests in flight are let finish.

    :raises ConfigurationError: the address or the data directory cannot be used.
    """
    store = Store(settings.data_dir)
    injector = SandboxFaultInjector(settings.faults)
    sandbox = Sandbox(store, injector)

    def make_app(drop: Drop) -> ASGIApp:
        return Api(sandbox, store, injector, drop=drop, allow_reset=settings.allow_reset).app()

    async with contextlib.AsyncExitStack() as resources:
        listeners = _listeners(settings.host, settings.port)
        servers = [(_SandboxServer(make_app, settings), listeners)]
        for listener in listeners:
            resources.enter_context(listener)
        if settings.tls_port is not None:
            tls_listeners = _listeners(settings.host, settings.tls_port)
            servers.append((_SandboxServer(make_app, settings, _tls(settings)), tls_listeners))
            for listener in tls_listeners:
                resources.enter_context(listener)
        await store.open()
        resources.push_async_callback(store.close)
        for server, its_listeners in servers:
            await resources.enter_async_context(_serving(server, its_listeners))
        yield f"http://{with_port(*listeners[0].getsockname()[:2])}"


class _SandboxServer(uvicorn.Server):
    """uvicorn that leaves signals to its owner, says when it is up, and can drop a client."""

    def __init__(
        self,
        make_app: Callable[[Drop], ASGIApp],
        settings: SandboxSettings,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        def given(*_: object) -> ssl.SSLContext:
            assert tls is not None
            return tls

        super().__init__(
            uvicorn.Config(
                make_app(self.drop),
                http=H11Protocol,  # bounds the size of a request's head
                loop="none",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=settings.drain_seconds,
                ssl_context_factory=None if tls is None else given,
            )
        )
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    def drop(self, client: tuple[str, int]) -> None:
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.client == client:
                connection.transport.abort()


@contextlib.asynccontextmanager
async def _serving(server: _SandboxServer, listeners: list[socket.socket]) -> AsyncGenerator[None]:
    serving = asyncio.create_task(server.serve(sockets=listeners), name="stripe sandbox")
    try:
        await server.is_up.wait()
        yield
    finally:
        server.should_exit = True
        await serving


def _tls(settings: SandboxSettings) -> ssl.SSLContext:
    if settings.tls_certificate is None:
        raise ConfigurationError("SANDBOX_TLS_PORT needs a SANDBOX_TLS_CERTIFICATE.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:  # SSLError is one, too
        raise ConfigurationError(
            f"The certificate {settings.tls_certificate} and its key cannot be used: {error}."
        ) from error
    return context


def _listeners(host: str, port: int) -> list[socket.socket]:
    try:
        return open_listeners(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"The address {with_port(host, port)} cannot be used ({error.strerror or error}): "
            "set SANDBOX_PORT to another port or stop what listens there."
        ) from error
