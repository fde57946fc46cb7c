"""The process of one service: opens what the service needs, serves it, and closes it in order.

A service's `main.py` has one function, ``async def wire(host: Host) -> None``, which builds the
service from the host's settings, documents, clients, and HTTP and gRPC servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack
from functools import cached_property
from typing import NamedTuple, TypeVar

import aiohttp
import grpc.aio
import uvicorn
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer
from starlette.routing import Route
from starlette.types import ASGIApp

from services.common.background.jobs import Job, JobFunction
from services.common.calls.grpc_client import GrpcEdge, open_channel
from services.common.calls.http_client import HttpEdge
from services.common.calls.outgoing import CallTools
from services.common.dependency_injection import provide
from services.common.documents import (
    Collection,
    DocumentModel,
    Documents,
    DocumentStore,
    StoreUnavailable,
    TracedStore,
    UserRefused,
    open_store,
)
from services.common.errors import ConfigurationError
from services.common.identity.access_tokens import JWKS_PATH, TokenVerifier
from services.common.identity.caller_dependency import asks_for_caller
from services.common.listening import open_listeners, with_port
from services.common.observing.kept_traces import KeptTraces
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.common.observing.recent_traffic import ProcessReport
from services.common.observing.telemetry import make_tracer_provider
from services.common.serving import kept_trace_routes
from services.common.serving.fault_injection import InjectedFaults
from services.common.serving.grpc_server import GrpcServer
from services.common.serving.http_protocol import bounded_http_protocol
from services.common.serving.http_server import (
    InternalFirst,
    Outermost,
    Readiness,
    internal_app,
    make_app,
    operations_of,
    serve_app,
)
from services.common.serving.unsampled import UnsampledUninstrumented
from services.common.settings import ProcessSettings, SettingsType, read_settings
from services.common.topology import Port, Topology

log = get_logger(__name__)

Model = TypeVar("Model", bound=DocumentModel)
ServicerType = TypeVar("ServicerType")
Wire = Callable[["Host"], Awaitable[None]]
Announce = Callable[[], None]

_KEEP_ALIVE_SECONDS = 75
_LINGER_PAUSE_SECONDS = 0.05
_JOB_GRACE_SECONDS = 2.0
_DATABASE_PAUSE_SECONDS = 0.5
_CALLEES_SECONDS = 10.0


class Listener(NamedTuple):
    """An HTTP app and where it is served."""

    app: ASGIApp
    host: str
    port: int


class Host:
    """What a service is built with. Made by :func:`hosting`.

    :ivar unkept_pages: paths of an outermost service that begin no kept trace, and those below.
    """

    def __init__(
        self, name: str, topology: Topology, process: ProcessSettings, resources: AsyncExitStack
    ) -> None:
        self.name = name
        self.topology = topology
        self.process = process
        self.metrics = Metrics()
        self.metrics.process(name, process.version, process.instance)
        self.readiness = Readiness()
        self._declared = topology.service(name)
        self._resources = resources
        self.unkept_pages: set[str] = set()
        self._kept_traces = KeptTraces() if process.serve_recent else None
        self._tracer_provider = self.tracer_provider(self._declared.workload)
        self.tracer: Tracer = self._tracer_provider.get_tracer("meshmart")
        self.call_tools = CallTools(caller=name, tracer=self.tracer, metrics=self.metrics)
        self._store: DocumentStore | None = None
        self._session: aiohttp.ClientSession | None = None
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._jobs: list[Job] = []
        self._wrappers: list[Callable[[ASGIApp], ASGIApp]] = []
        self._faults = InjectedFaults.of(process)
        self._app = make_app(
            title=self._declared.workload,
            description=self._declared.about,
            settings=process,
            faults=self._faults,
        )
        self._internal = internal_app(
            self._app,
            self.readiness,
            lambda: all(job.is_alive for job in self._jobs),
            self.metrics,
            self._tell_recent if process.serve_recent else None,
            self._trace_routes(),
        )
        self._grpc: GrpcServer | None = None
        if self._declared.grpc is not None:
            self._grpc = GrpcServer(
                service=name,
                settings=process,
                tracer=self.tracer,
                metrics=self.metrics,
                faults=self._faults,
            )
        self._check_variant()

    def tracer_provider(self, service: str) -> TracerProvider:
        """Makes spans that have a service's name, as this process keeps or sends them."""
        process = self.process
        provider = make_tracer_provider(
            service=service,
            version=process.version,
            instance=process.instance,
            namespace=self.topology.namespace,
            sampling_ratio=self._sampling_ratio,
            is_outermost=self.is_outermost,
            otlp_endpoint=process.otel_exporter_otlp_endpoint,
            kept_here=self._kept_traces,
            unkept_pages=self.unkept_pages,
        )
        self._resources.push_async_callback(asyncio.to_thread, provider.shutdown)
        return provider

    def settings(self, kind: type[SettingsType]) -> SettingsType:
        """Reads the service's own settings.

        :raises ConfigurationError: naming the wrong or missing one.
        """
        return read_settings(kind)

    async def documents(self, collection: Collection, model: type[Model]) -> Documents[Model]:
        """A collection of the service's own database."""
        if not self._declared.database:
            raise ConfigurationError(
                f"{self.name} wants a database, but topology.yaml declares none: "
                "set `database: true` there."
            )
        if self._store is None:
            url = self.process.database_url
            self._store = open_store(url, self.name)
            if self.process.otel_exporter_otlp_endpoint is not None:  # somebody takes the spans
                self._store = TracedStore(self._store, self.tracer, url=url, database=self.name)
            self._resources.push_async_callback(self._store.close)
            self.readiness.add("database", self._store.ping)
        await self._prepare(self._store, collection)
        return Documents(self._store, collection, model)

    async def _prepare(self, store: DocumentStore, collection: Collection) -> None:
        """Waits as long as it may for a database that is being started, and its user made."""
        until = time.monotonic() + self.process.database_wait_seconds
        while True:
            try:
                return await store.prepare(collection)
            except (StoreUnavailable, UserRefused) as error:
                if time.monotonic() > until:
                    raise
                log.info("database.awaited", reason=str(error))
            await asyncio.sleep(_DATABASE_PAUSE_SECONDS)

    def http(self, callee: str) -> HttpEdge:
        """The HTTP calls to another service. ConfigurationError when the topology does not declare
        the edge.
        """
        edge = self.topology.edge(self.name, callee)
        return HttpEdge(edge, self.http_addresses(callee), self.http_session(), self.call_tools)

    def grpc(self, callee: str) -> GrpcEdge:
        """The RPCs to another service. ConfigurationError when the topology does not declare the
        edge.
        """
        edge = self.topology.edge(self.name, callee)
        if callee not in self._channels:
            declared = self.topology.service(callee)
            addresses = self.process.grpc_addresses.get(callee) or _cluster_address(
                declared.workload, declared.grpc
            )
            channel = open_channel(addresses)
            self._channels[callee] = channel
            self._resources.push_async_callback(channel.close)
        return GrpcEdge(edge, self._channels[callee], self.call_tools)

    def http_addresses(self, callee: str) -> tuple[str, ...]:
        """Where a service's HTTP port is reached, as ``host:port``."""
        declared = self.topology.service(callee)
        return self.process.http_addresses.get(callee) or _cluster_address(
            declared.workload, declared.http
        )

    def http_session(self) -> aiohttp.ClientSession:
        """The process's one pool of HTTP connections."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=100, keepalive_timeout=_KEEP_ALIVE_SECONDS - 15
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=2.0),
                # The gateway hands answers on as they are. Whoever reads one gets it uncompressed.
                auto_decompress=False,
                headers={"accept-encoding": "identity"},
            )
            self._resources.push_async_callback(self._session.close)
        return self._session

    @cached_property
    def token_verifier(self) -> TokenVerifier:
        """Verifies the users' access tokens, with the keys that `auth` publishes."""
        fetch = self.http("auth").route("GET", JWKS_PATH)

        async def fetch_keys() -> object:
            return (await fetch()).json()

        return TokenVerifier(fetch_keys, names_user=self.process.trace_user_id)

    def serve_http(self, router: APIRouter, *instances: object) -> None:
        """Adds HTTP routes, and the objects that they ask for by type
        (see :mod:`services.common.dependency_injection`).
        """
        self._app.include_router(router)
        if asks_for_caller(router):
            provide(self._app, self.token_verifier)
        for instance in instances:
            provide(self._app, instance)

    def serve_grpc(
        self,
        add: Callable[[ServicerType, grpc.aio.Server], None],
        servicer: ServicerType,
        full_name: str,
    ) -> None:
        """Adds a gRPC service by its generated `add_…Servicer_to_server`."""
        if self._grpc is None:
            raise ConfigurationError(
                f"{self.name} offers gRPC, but topology.yaml declares no port for it: "
                "add `grpc:` there."
            )
        add(servicer, self._grpc.server)
        self._grpc.offer(full_name)

    def every(
        self,
        name: str,
        interval_seconds: float,
        run: JobFunction,
        *,
        callees: Sequence[str] = (),
    ) -> Job:
        """Adds a background job, started with the servers.

        :param callees: the services that it calls, by gRPC. Its first run waits for them, but for
            10 seconds at most: one that is being started together with this one is no outage.
        """
        edges = [self.grpc(callee) for callee in callees]

        async def callees_listen() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CALLEES_SECONDS):
                    await asyncio.gather(*(edge.reached() for edge in edges))

        job = Job(name, interval_seconds, run, self.metrics, callees_listen)
        self._jobs.append(job)
        return job

    def app_setup(self, adjust: Callable[[FastAPI], None]) -> None:
        """Changes the FastAPI app itself: mounts, exception handlers, middleware."""
        adjust(self._app)

    def wrap_app(self, wrapper: Callable[[ASGIApp], ASGIApp]) -> None:
        """Puts an ASGI app in front of everything, tracing included."""
        self._wrappers.append(wrapper)

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Closes something of the service's own when the process ends."""
        self._resources.push_async_callback(close)

    def listeners(self) -> list[Listener]:
        """All HTTP apps, finished, and where they are served. Called once, after everything was
        added.
        """
        process = self.process
        found = [Listener(self.app(), process.host, self.http_port)]
        if self._declared.internal_port is not None:
            host = process.internal_host or process.host
            port = process.internal_port or self._declared.internal_port
            found.append(Listener(self._internal, host, port))
        return found

    def app(self) -> ASGIApp:
        """The finished HTTP app: what is internal is in it unless that has a port of its own, as it
        has where people reach this one. Called once, after everything was added.
        """
        serve_app(
            self._app,
            service=self.name,
            settings=self.process,
            metrics=self.metrics,
            tracer_provider=self._tracer_provider,
        )
        app: ASGIApp = UnsampledUninstrumented(
            self._app, self.tracer, self.unkept_pages if self.is_outermost else None
        )
        for wrapper in self._wrappers:
            app = wrapper(app)
        if self.is_outermost:
            app = Outermost(app)
        if self._declared.internal_port is None:
            app = InternalFirst(self._internal, app)
        return app

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serves gRPC and runs the jobs; on the way out lets both finish what they are doing.

        :raises ConfigurationError: the gRPC address is not available, or FAULT_OPERATIONS is wrong.
        """
        if self._faults is not None:
            self._warn_of(self._faults)
        if self._grpc is not None and self._declared.grpc is not None:
            port = self.process.grpc_port or self._declared.grpc.port
            await self._grpc.start(with_port(self.process.host, port))
        for job in self._jobs:
            job.start()
        try:
            yield
        finally:
            await asyncio.gather(*(job.stop(_JOB_GRACE_SECONDS) for job in self._jobs))
            if self._grpc is not None:
                await self._grpc.stop(self.process.drain_seconds)

    async def announce_ready(self, announce: Announce) -> None:
        """Calls `announce` as soon as the process is ready for requests."""
        await self.readiness.wait()
        log.info("service.ready", http_port=self.http_port)
        announce()

    async def drain(self) -> None:
        """Takes the process out of rotation: not ready for anyone who asks, yet still answering."""
        self.readiness.draining = True
        if self._grpc is not None:
            await self._grpc.drain()

    @property
    def http_port(self) -> int:
        """The port for HTTP."""
        return self.process.http_port or self._declared.http.port

    @property
    def is_outermost(self) -> bool:
        """Whether people reach this process without a gateway whose word counts in between."""
        return self._declared.internal_port is not None and not self.process.behind_gateway

    @property
    def _sampling_ratio(self) -> float:
        if self.process.trace_sampling_ratio is not None:
            return self.process.trace_sampling_ratio
        return self._declared.trace_sampling_ratio

    def _tell_recent(self, window_seconds: int) -> ProcessReport:
        return ProcessReport(
            service=self.name,
            version=self.process.version,
            instance=self.process.instance,
            open_circuits=list(self.call_tools.open_circuits),
            report=self.metrics.recent.report(window_seconds),
        )

    def _warn_of(self, faults: InjectedFaults) -> None:
        rpcs = () if self._grpc is None else self._grpc.operations()
        faults.check(self.name, [*operations_of(self._app), *rpcs])
        log.warning(
            "faults.on",
            latency_seconds=faults.latency_seconds,
            error_share=faults.error_share,
            operations=sorted(faults.operations) or "all",
        )

    def _trace_routes(self) -> list[Route]:
        process = self.process
        if self._kept_traces is None:
            return []
        return kept_trace_routes.routes(
            self._kept_traces,
            sent_to=process.otel_exporter_otlp_endpoint or "",
            version=process.version,
            instance=process.instance,
        )

    def _check_variant(self) -> None:
        variant = self.process.variant
        if variant is not None and variant not in self._declared.variants:
            known = ", ".join(self._declared.variants) or "none"
            raise ConfigurationError(
                f"The setting VARIANT is {variant!r}, but {self.name} has these: {known}."
            )


@contextlib.asynccontextmanager
async def hosting(
    name: str, wire: Wire, *, topology: Topology, process: ProcessSettings
) -> AsyncGenerator[Host]:
    """A wired host that does not listen yet; closes everything it opened."""
    async with AsyncExitStack() as resources:
        host = Host(name, topology, process, resources)
        await wire(host)
        yield host


async def serve(
    name: str,
    wire: Wire,
    *,
    topology: Topology,
    process: ProcessSettings,
    announce: Announce,
    stop: asyncio.Event,
) -> None:
    """Runs one service until it is told to stop, then drains it.

    :param announce: called once, when the process is ready for requests.
    :param stop: set by whoever wants the service to end.
    :raises ConfigurationError: the service cannot start as configured.
    """
    async with hosting(name, wire, topology=topology, process=process) as host:
        servers = [_http_server(listener, process) for listener in host.listeners()]
        async with host.running():
            serving = [
                asyncio.create_task(server.serve_until_exit(), name="http server")
                for server in servers
            ]
            for server, its_serving in zip(servers, serving, strict=True):
                await server.wait_started(its_serving)
            stopping = asyncio.create_task(stop.wait())
            announcing = asyncio.create_task(host.announce_ready(announce))
            await asyncio.wait({*serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            log.info("service.draining")
            await host.drain()
            announcing.cancel()
            stopping.cancel()
            await asyncio.gather(*(server.let_go(process.linger_seconds) for server in servers))
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*serving)
        log.info("service.stopped")


def _http_server(listener: Listener, process: ProcessSettings) -> _HttpServer:
    return _HttpServer(
        uvicorn.Config(
            listener.app,
            host=listener.host,
            port=listener.port,
            http=bounded_http_protocol(process.head_seconds),
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(process.drain_seconds)),
        )
    )


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling, which would fight the host's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def serve_until_exit(self) -> None:
        host, port = self.config.host, self.config.port
        try:
            listeners = open_listeners(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"The HTTP address {with_port(host, port)} cannot be used "
                f"({error.strerror or error}): choose another or stop what listens there."
            ) from error
        await self.serve(listeners)

    async def let_go(self, linger_seconds: float) -> None:
        """Ends each connection with its next answer, and waits a while for those that are idle.

        Clients that keep a connection open hear so before it is closed. Otherwise one whose request
        meets the closing cannot know whether it was served (RFC 9112 §9.5, §9.6).
        """
        for headers in (self.config.encoded_headers, self.server_state.default_headers):
            headers.append((b"connection", b"close"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(linger_seconds):
                while self.server_state.connections:  # noqa: ASYNC110  uvicorn does not tell
                    await asyncio.sleep(_LINGER_PAUSE_SECONDS)

    async def wait_started(self, serving: asyncio.Task[None]) -> None:
        while not self.started:
            if serving.done():
                await serving
                return
            await asyncio.sleep(0.005)


def _cluster_address(workload: str, port: Port | None) -> tuple[str, ...]:
    if port is None:
        raise ConfigurationError(f"{workload} offers no such port in the topology.")
    return (f"{workload}:{port.service_port}",)
