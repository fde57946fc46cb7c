"""Reads ``services/topology.yaml``, the one declaration of the shop, and refuses a wrong one.

Every error is a :class:`ConfigurationError` that names the place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.common.errors import ConfigurationError
from services.common.validation import first_wrong

TOPOLOGY_PATH = Path(__file__).parent.parent / "topology.yaml"

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
PathTemplate = Annotated[
    str,
    Field(
        pattern=r"^/(?:[A-Za-z0-9._-]+|\{[a-z_]+\})?(?:/(?:[A-Za-z0-9._-]+|\{[a-z_]+\}))*(?:/\*\*)?$"
    ),
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Milliseconds = Annotated[int, Field(gt=0, le=60_000)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Port(_Declared):
    """A port that the process listens on, and the one its Kubernetes Service offers it on."""

    port: PortNumber
    service_port: PortNumber


class PublicRoute(_Declared):
    """A path that people outside may reach through the gateway."""

    path: PathTemplate
    methods: tuple[Method, ...] = Field(min_length=1)
    user: bool = False

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return path_pattern(self.path)

    def matches(self, path: str) -> bool:
        """Whether a request path falls under this route."""
        return self._pattern.fullmatch(path) is not None


class HttpCall(_Declared):
    """One HTTP route that a caller uses."""

    method: Method
    path: PathTemplate
    timeout_ms: Milliseconds
    idempotent: bool = False
    client_retries: int = Field(default=0, ge=0, le=3)

    @property
    def operation(self) -> str:
        """How the call is named in records and spans: ``GET /api/products``."""
        return f"{self.method} {self.path}"


class GrpcCall(_Declared):
    """One RPC that a caller uses, as ``package.Service/Method``."""

    rpc: str = Field(pattern=r"^[a-z0-9_.]+\.[A-Z][A-Za-z0-9]+/[A-Z][A-Za-z0-9]+$")
    timeout_ms: Milliseconds
    idempotent: bool = False
    client_retries: int = Field(default=0, ge=0, le=3)

    @property
    def operation(self) -> str:
        """How the call is named in records and spans: ``InventoryService/Reserve``."""
        service, _, method = self.rpc.rpartition("/")
        return f"{service.rpartition('.')[2]}/{method}"


class Edge(_Declared):
    """All calls from one service to another."""

    callee: str
    http: tuple[HttpCall, ...] = ()
    grpc: tuple[GrpcCall, ...] = ()

    @model_validator(mode="after")
    def _calls_are_sound(self) -> Self:
        if not self.http and not self.grpc:
            raise ValueError(f"the edge to {self.callee} declares no call")
        operations = [call.operation for call in (*self.http, *self.grpc)]
        for operation in operations:
            if operations.count(operation) > 1:
                raise ValueError(f"{operation} is declared twice")
        for call in (*self.http, *self.grpc):
            if call.client_retries and not call.idempotent:
                raise ValueError(f"{call.operation} is retried but not idempotent")
        return self


class External(_Declared):
    """A host outside the shop that a service calls over HTTPS."""

    name: str
    host: str
    port: PortNumber


class Service(_Declared):
    """One service: what it offers, what it keeps, and whom it calls."""

    workload: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    about: str
    http: Port
    internal_port: PortNumber | None = None
    grpc: Port | None = None
    database: bool = False
    trace_sampling_ratio: float = Field(default=0.1, ge=0, le=1)
    variants: tuple[str, ...] = ()
    public: tuple[PublicRoute, ...] = ()
    calls: tuple[Edge, ...] = ()
    external: tuple[External, ...] = ()


class Topology(_Declared):
    """The whole shop."""

    namespace: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    services: Mapping[str, Service] = Field(min_length=1)

    @model_validator(mode="after")
    def _edges_fit(self) -> Self:
        workloads = [service.workload for service in self.services.values()]
        for name, service in self.services.items():
            if workloads.count(service.workload) > 1:
                raise ValueError(f"{name}: the workload {service.workload} is declared twice")
            callees = [edge.callee for edge in service.calls]
            for edge in service.calls:
                where = f"{name} -> {edge.callee}"
                if edge.callee == name:
                    raise ValueError(f"{where}: a service does not call itself")
                if edge.callee not in self.services:
                    raise ValueError(f"{where}: there is no service {edge.callee}")
                if callees.count(edge.callee) > 1:
                    raise ValueError(f"{where}: the edge is declared twice")
                if edge.grpc and self.services[edge.callee].grpc is None:
                    raise ValueError(f"{where}: {edge.callee} offers no gRPC port")
        return self

    @cached_property
    def edges(self) -> frozenset[tuple[str, str]]:
        """Every declared (caller, callee)."""
        return frozenset(
            (name, edge.callee) for name, service in self.services.items() for edge in service.calls
        )

    def service(self, name: str) -> Service:
        """The service of that name; ConfigurationError when there is none."""
        if name not in self.services:
            known = ", ".join(self.services)
            raise ConfigurationError(
                f"There is no service {name!r} in the topology; it knows {known}."
            )
        return self.services[name]

    def edge(self, caller: str, callee: str) -> Edge:
        """The calls from `caller` to `callee`; ConfigurationError when none are declared."""
        for edge in self.service(caller).calls:
            if edge.callee == callee:
                return edge
        raise undeclared(caller, callee)

    def callers_of(self, callee: str) -> Iterator[tuple[str, Edge]]:
        """Who calls `callee`, with the calls they make."""
        for name, service in self.services.items():
            for edge in service.calls:
                if edge.callee == callee:
                    yield name, edge

    def public_service(self, method: str, path: str) -> str | None:
        """Which service the gateway sends this request to; None when it is not public."""
        for name, service in self.services.items():
            for route in service.public:
                if method in route.methods and route.matches(path):
                    return name
        return None


def undeclared(caller: str, what: str) -> ConfigurationError:
    """The error of a service that is built to make a call which the topology does not declare."""
    return ConfigurationError(
        f"{caller} calls {what}, but topology.yaml does not declare that: "
        f"add it under services.{caller}.calls."
    )


def path_pattern(template: str) -> re.Pattern[str]:
    """The regular expression of a path template: ``{name}`` is one segment, ``/**`` everything
    below.
    """
    body = template.removesuffix("/**")
    pattern = re.sub(r"\\\{([a-z_]+)\\\}", r"(?P<\1>[^/]+)", re.escape(body))
    return re.compile(pattern + ("/.+" if template.endswith("/**") else ""))


@cache
def load_topology(path: Path = TOPOLOGY_PATH) -> Topology:
    """Reads and checks the topology.

    :raises ConfigurationError: the file is missing, is not YAML, or contradicts itself.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigurationError(
            f"The topology {path} cannot be read: {error.strerror}."
        ) from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"The topology {path} is not valid YAML: {reason}.") from error
    try:
        return Topology.model_validate(raw)
    except ValidationError as error:
        wrong = first_wrong(error)
        raise ConfigurationError(
            f"The topology {path.name} is wrong at {wrong.place('the file')}: {wrong.reason}."
        ) from error
