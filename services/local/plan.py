"""Which processes make the shop on this machine, on which ports, with which settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.common.errors import ConfigurationError
from services.common.listening import (
    ALL_ADDRESSES,
    LOCALHOST,
    LOOPBACK,
    is_loopback,
    open_listeners,
    with_port,
)
from services.common.topology import Topology
from services.local.child import SANDBOX
from services.local.data import kept_secret
from services.local.ports import Ports, grpc_name, internal_name, usual_grpc, usual_http

_DRAIN_SECONDS = "2"
SANDBOX_KEY = "sk_test_meshmart_sandbox"

# Secrets in the environment of whoever starts the shop, and the one service that each is for.
SECRETS = {
    "FRONTEND_SECRET": "frontend",
    "SMTP_PASSWORD": "notification",
    "STRIPE_API_KEY": "payment",
}

EVERYONE = "*"

# Environment variables by EVERYONE, a service's name or an instance's name.
ExtraEnvironment = Mapping[str, Mapping[str, str]]
# The HTTP and gRPC ports of each process, by service.
_Addresses = Mapping[str, Sequence[tuple[int, int | None]]]
_EXTRA_ENVIRONMENT = TypeAdapter(dict[str, dict[str, str]])


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for on the command line.

    :ivar ports: HTTP ports by service, gRPC ports by ``SERVICE.grpc``.
    :ivar host: where the frontend listens, which stands for the shop; all others stay on loopback.
    """

    data: Path
    only: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    free_ports: bool = False
    host: str = LOCALHOST
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    variants: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: ExtraEnvironment = field(default_factory=dict[str, Mapping[str, str]])


@dataclass(frozen=True, slots=True)
class Planned:
    """One process: `service` says what it runs, `instance` which one of its replicas it is.

    :ivar internal_port: where it answers what is not for people, when that is not `http_port`.
    """

    service: str
    instance: str
    http_port: int
    grpc_port: int | None
    environment: Mapping[str, str]
    internal_port: int | None = None

    @property
    def url(self) -> str:
        """Where this machine finds its HTTP side."""
        return _url(self.environment.get("HOST", LOOPBACK), self.http_port)

    @property
    def internal_url(self) -> str:
        """Where its probes, metrics and documentation are."""
        return f"http://{LOOPBACK}:{self.internal_port or self.http_port}"


def plan_processes(
    topology: Topology, options: Options, ports: Ports, inherited: Mapping[str, str]
) -> tuple[Planned, ...]:
    """The processes in the order of the topology, the Stripe sandbox (where there is no key) first.

    :raises ConfigurationError: an option names something that does not exist, or a port is taken.
    """
    _check_names(topology, options)
    wanted = [name for name in topology.services if not options.only or name in options.only]
    addresses = {
        name: _addresses(name, position, topology, options, ports if name in wanted else None)
        for position, name in enumerate(topology.services)
    }
    shared = _shared_settings(options, addresses)
    own = _own_settings(options, addresses, inherited)
    planned: list[Planned] = []
    if "payment" in wanted and not inherited.get("STRIPE_API_KEY"):
        sandbox = _sandbox(options, ports)
        planned.append(sandbox)
        own["payment"] = {"STRIPE_API_KEY": SANDBOX_KEY, "STRIPE_API_BASE": sandbox.url}
    for position, name in enumerate(topology.services):
        if name not in wanted:
            continue
        for replica, (http_port, grpc_port) in enumerate(addresses[name]):
            instance = name if len(addresses[name]) == 1 else f"{name}-{replica + 1}"
            environment = {
                **shared,
                **own.get(name, {}),
                "INSTANCE": instance,
                "HTTP_PORT": str(http_port),
                "LOG_FILE": str(options.data.resolve() / "logs" / f"{instance}.log"),
            }
            if grpc_port is not None:
                environment["GRPC_PORT"] = str(grpc_port)
            if name in options.versions:
                environment["VERSION"] = options.versions[name]
            if name in options.variants:
                environment["VARIANT"] = options.variants[name]
            internal_port: int | None = None
            if topology.services[name].internal_port is not None:
                internal_port = ports.internal(name, position, replica)
                environment |= {"INTERNAL_HOST": LOOPBACK, "INTERNAL_PORT": str(internal_port)}
            planned.append(
                Planned(name, instance, http_port, grpc_port, environment, internal_port)
            )
    return tuple(_with_extra(planned, options.environment, topology))


def inherited_by(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The parent's environment without the secrets of other services."""
    return {
        name: value for name, value in environment.items() if SECRETS.get(name, service) == service
    }


def read_environment(file: Path) -> ExtraEnvironment:
    """The file of ``--environment``: ``{"*" | service | instance: {NAME: VALUE}}`` as JSON.

    :raises ConfigurationError: it cannot be read, or holds something else.
    """
    try:
        return _EXTRA_ENVIRONMENT.validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"The file {file} of --environment cannot be read: {error.strerror}."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "its beginning"
        message = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigurationError(
            f"The file {file} of --environment is wrong at {place}: {message}."
        ) from error


def _shared_settings(options: Options, addresses: _Addresses) -> dict[str, str]:
    """What every process is told."""
    http = {name: [f"{LOOPBACK}:{port}" for port, _ in pairs] for name, pairs in addresses.items()}
    grpc = {
        name: [f"{LOOPBACK}:{port}" for _, port in pairs if port is not None]
        for name, pairs in addresses.items()
    }
    return {
        "HOST": LOOPBACK,
        "DATABASE_URL": f"sqlite:///{options.data.resolve()}",
        "DRAIN_SECONDS": _DRAIN_SECONDS,
        "HTTP_ADDRESSES": json.dumps(http),
        "GRPC_ADDRESSES": json.dumps(grpc),
        "SERVE_API": "true",
    }


def _own_settings(
    options: Options, addresses: _Addresses, inherited: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What the processes of one service are told, by service."""
    notification: dict[str, str] = {}
    if not inherited.get("SMTP_HOST"):
        notification["MAIL_FOLDER"] = str(options.data.resolve() / "mails")
    if not inherited.get("SHOP_URL"):
        http_port, _ = addresses["frontend"][0]
        notification["SHOP_URL"] = _url(options.host, http_port)
    return {
        "frontend": {"FRONTEND_SECRET": kept_secret(options.data), "HOST": options.host},
        "auth": {"PROXIES_IN_FRONT": "1"},  # the frontend
        "notification": notification,
    }


def _sandbox(options: Options, ports: Ports) -> Planned:
    port = ports.http(SANDBOX)
    environment = {
        "SANDBOX_HOST": LOOPBACK,
        "SANDBOX_PORT": str(port),
        "SANDBOX_DATA_DIR": str(options.data.resolve()),
    }
    return Planned(SANDBOX, SANDBOX, port, None, environment)


def check_host(host: str) -> None:
    """Returns when the shop can listen on a host.

    :raises ConfigurationError: it cannot.
    """
    try:
        listeners = open_listeners(host, 0)
    except OSError as error:
        raise ConfigurationError(
            f"--host takes an address of this machine, or a name for one, and {host!r} is none "
            f"({error.strerror})."
        ) from error
    for listener in listeners:
        listener.close()


def openness(host: str, inherited: Mapping[str, str]) -> str | None:
    """What to say of a shop that listens there; None when this machine alone reaches it."""
    if is_loopback(host):
        return None
    if host not in ALL_ADDRESSES:
        return f"The shop listens on {host}: everybody who reaches it can use it."
    everywhere = (
        "The shop listens on all addresses of this machine: everybody who reaches one can use it."
    )
    if inherited.get("SHOP_URL"):
        return everywhere
    return (
        f"{everywhere} Links in mails lead to {LOOPBACK}, unless SHOP_URL says where others find "
        "the shop."
    )


def _url(host: str, port: int) -> str:
    """Where this machine finds what listens at a host."""
    if host == LOCALHOST or host in ALL_ADDRESSES:
        host = LOOPBACK
    return f"http://{with_port(host, port)}"


def _with_extra(
    planned: Sequence[Planned], extra: ExtraEnvironment, topology: Topology
) -> Iterator[Planned]:
    """The processes with what the user adds to their environments: the more exact name wins."""
    instances = (process.instance for process in planned)
    known = dict.fromkeys((EVERYONE, SANDBOX, *topology.services, *instances))
    for name in extra:
        if name not in known:
            raise ConfigurationError(
                f"--environment names {name!r}, which is no process; there are {', '.join(known)}."
            )
    for process in planned:
        environment = dict(process.environment)
        for name in (EVERYONE, process.service, process.instance):
            environment |= extra.get(name, {})
        yield replace(process, environment=environment)


def _addresses(
    name: str, position: int, topology: Topology, options: Options, ports: Ports | None
) -> list[tuple[int, int | None]]:
    """The HTTP and gRPC ports of a service's processes; usual ones where it is not ours to run."""
    has_grpc = topology.services[name].grpc is not None
    if ports is None:
        http_port = options.ports.get(name, usual_http(name, position))
        grpc_port = options.ports.get(grpc_name(name), usual_grpc(position))
        return [(http_port, grpc_port if has_grpc else None)]
    return [
        (
            ports.http(name, position, replica),
            ports.grpc(name, position, replica) if has_grpc else None,
        )
        for replica in range(options.replicas.get(name, 1))
    ]


def _known_ports(topology: Topology) -> tuple[str, ...]:
    services = topology.services.items()
    with_grpc = (name for name, service in services if service.grpc is not None)
    with_internal = (name for name, service in services if service.internal_port is not None)
    return (
        *topology.services,
        *map(grpc_name, with_grpc),
        *map(internal_name, with_internal),
        SANDBOX,
    )


def _check_names(topology: Topology, options: Options) -> None:
    services = tuple(topology.services)
    named: Sequence[tuple[str, Iterable[str], str, Sequence[str]]] = (
        ("--only", options.only, "service", services),
        ("--ports", options.ports, "port", _known_ports(topology)),
        ("--replicas", options.replicas, "service", services),
        ("--versions", options.versions, "service", services),
        ("--variants", options.variants, "service", services),
    )
    for option, names, kind, known in named:
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"{option} names {name!r}, which is no {kind}; there are {', '.join(known)}."
                )
