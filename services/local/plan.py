"""Which processes make the shop on this machine, on which ports, with which settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.common.calls.round_robin import spread
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
from services.common.validation import first_wrong, lower_first
from services.local.data import kept_secret
from services.local.ports import Ports, grpc_name, internal_name, usual_grpc, usual_http
from services.local.programs import SANDBOX

_DRAIN_SECONDS = "2"
SANDBOX_KEY = "sk_test_meshmart_sandbox"

# Secrets in the environment of whoever starts the shop, and the one service that each is for.
SECRETS = {
    "FRONTEND_SECRET": "frontend",
    "SMTP_PASSWORD": "notification",
    "STRIPE_API_KEY": "payment",
}

EVERYONE = "*"

_LATENCY_SECONDS = "FAULT_LATENCY_SECONDS"
_ERROR_SHARE = "FAULT_ERROR_SHARE"

# Environment variables by EVERYONE, a service's name or an instance's name.
ExtraEnvironment = Mapping[str, Mapping[str, str]]
_EXTRA_ENVIRONMENT = TypeAdapter(dict[str, dict[str, str]])


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a service that is to run.

    :ivar weight: its share of the requests, in parts of the sum of all weights of the service.
    """

    name: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for on the command line.

    :ivar replicas: how many processes, of each version, by service.
    :ivar versions: one, or those that requests are split between, by service.
    :ivar ports: HTTP ports by service, gRPC ports by ``SERVICE.grpc``.
    :ivar slow: seconds that requests take longer on purpose, by service or ``SERVICE:VERSION``.
    :ivar fail: the share of the requests that fail on purpose, from 0 to 1, by the same.
    :ivar host: where the frontend listens, which stands for the shop; all others stay on loopback.
    """

    data: Path
    only: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    free_ports: bool = False
    host: str = LOCALHOST
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    versions: Mapping[str, Sequence[Version]] = field(default_factory=dict[str, Sequence[Version]])
    variants: Mapping[str, str] = field(default_factory=dict[str, str])
    slow: Mapping[str, float] = field(default_factory=dict[str, float])
    fail: Mapping[str, float] = field(default_factory=dict[str, float])
    environment: ExtraEnvironment = field(default_factory=dict[str, Mapping[str, str]])


@dataclass(frozen=True, slots=True)
class PlannedProcess:
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


@dataclass(frozen=True, slots=True)
class _Place:
    """One process of a service, before it is planned: what it is called, and where it listens.

    :ivar version: None for that of the service's own settings.
    """

    instance: str
    version: Version | None
    http_port: int
    grpc_port: int | None


_Places = Mapping[str, Sequence[_Place]]


def plan_processes(
    topology: Topology, options: Options, ports: Ports, inherited: Mapping[str, str]
) -> tuple[PlannedProcess, ...]:
    """The processes in the order of the topology, the Stripe sandbox (where there is no key) first.

    :raises ConfigurationError: an option names something that does not exist, or a port is taken.
    """
    _check_names(topology, options)
    wanted = [name for name in topology.services if not options.only or name in options.only]
    places = {
        name: _places(name, position, topology, options, ports if name in wanted else None)
        for position, name in enumerate(topology.services)
    }
    shared = _shared_settings(options, places)
    own = _own_settings(options, places, inherited)
    planned: list[PlannedProcess] = []
    if "payment" in wanted and not inherited.get("STRIPE_API_KEY"):
        sandbox = _sandbox(options, ports)
        planned.append(sandbox)
        own["payment"] = {"STRIPE_API_KEY": SANDBOX_KEY, "STRIPE_API_BASE": sandbox.url}
    for position, name in enumerate(topology.services):
        if name not in wanted:
            continue
        for number, place in enumerate(places[name]):
            environment = {
                **shared,
                **own.get(name, {}),
                **_faults(name, place, options),
                "INSTANCE": place.instance,
                "HTTP_PORT": str(place.http_port),
                "LOG_FILE": str(options.data.resolve() / "logs" / f"{place.instance}.log"),
            }
            if place.grpc_port is not None:
                environment["GRPC_PORT"] = str(place.grpc_port)
            if place.version is not None:
                environment["VERSION"] = place.version.name
            if name in options.variants:
                environment["VARIANT"] = options.variants[name]
            internal_port: int | None = None
            if topology.services[name].internal_port is not None:
                internal_port = ports.internal(name, position, number)
                environment |= {"INTERNAL_HOST": LOOPBACK, "INTERNAL_PORT": str(internal_port)}
            planned.append(
                PlannedProcess(
                    name,
                    place.instance,
                    place.http_port,
                    place.grpc_port,
                    environment,
                    internal_port,
                )
            )
    watched = json.dumps([_watched(process) for process in planned if process.service in places])
    planned = [
        replace(process, environment={**process.environment, "SHOP_PROCESSES": watched})
        if process.service == "frontend"
        else process
        for process in planned
    ]
    return tuple(_with_extra(planned, options.environment, topology))


def _watched(process: PlannedProcess) -> Mapping[str, str]:
    """What the mesh page is told of a process."""
    return {
        "service": process.service,
        "instance": process.instance,
        "url": process.internal_url,
        "version": process.environment.get("VERSION", ""),
    }


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
        wrong = first_wrong(error)
        raise ConfigurationError(
            f"The file {file} of --environment is wrong at {wrong.place('its beginning')}: "
            f"{lower_first(wrong.reason)}."
        ) from error


def _shared_settings(options: Options, places: _Places) -> dict[str, str]:
    """What every process is told."""
    turns = {name: _by_weight(found) for name, found in places.items()}
    http = {
        name: [f"{LOOPBACK}:{place.http_port}" for place in found] for name, found in turns.items()
    }
    grpc = {
        name: [f"{LOOPBACK}:{place.grpc_port}" for place in found if place.grpc_port is not None]
        for name, found in turns.items()
    }
    return {
        "HOST": LOOPBACK,
        "DATABASE_URL": f"sqlite:///{options.data.resolve()}",
        "DRAIN_SECONDS": _DRAIN_SECONDS,
        "HTTP_ADDRESSES": json.dumps(http),
        "GRPC_ADDRESSES": json.dumps(grpc),
        "SERVE_API": "true",
        "SERVE_RECENT": "true",
    }


def _own_settings(
    options: Options, places: _Places, inherited: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What the processes of one service are told, by service."""
    notification: dict[str, str] = {}
    if not inherited.get("SMTP_HOST"):
        notification["MAIL_FOLDER"] = str(options.data.resolve() / "mails")
    if not inherited.get("SHOP_URL"):
        notification["SHOP_URL"] = _url(options.host, places["frontend"][0].http_port)
    return {
        "frontend": {"FRONTEND_SECRET": kept_secret(options.data), "HOST": options.host},
        "auth": {"PROXIES_IN_FRONT": "1"},  # the frontend
        "notification": notification,
    }


def _faults(name: str, place: _Place, options: Options) -> dict[str, str]:
    """What goes wrong on purpose with one process: that of its version before its service's."""
    version = place.version.name if place.version is not None else ""
    settings: dict[str, str] = {}
    for setting, given in ((_LATENCY_SECONDS, options.slow), (_ERROR_SHARE, options.fail)):
        value = given.get(f"{name}:{version}", given.get(name))
        if value is not None:
            settings[setting] = f"{value:g}"
    return settings


def _sandbox(options: Options, ports: Ports) -> PlannedProcess:
    port = ports.http(SANDBOX)
    environment = {
        "SANDBOX_HOST": LOOPBACK,
        "SANDBOX_PORT": str(port),
        "SANDBOX_DATA_DIR": str(options.data.resolve()),
    }
    return PlannedProcess(SANDBOX, SANDBOX, port, None, environment)


def check_host(host: str) -> None:
    """Returns when the shop can listen on a host.

    :raises ConfigurationError: it cannot.
    """
    try:
        listeners = open_listeners(host, 0)
    except OSError as error:
        raise ConfigurationError(
            f"--host takes an address of this machine, or a name for one, not {host!r} "
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


def faults_on(planned: Iterable[PlannedProcess], inherited: Mapping[str, str]) -> Sequence[str]:
    """What to say of the faults that processes start with: a line for each kind that is on."""
    slow: list[str] = []
    failing: list[str] = []
    for process in planned:
        if process.service == SANDBOX:  # has faults of its own
            continue
        environment = {**inherited, **process.environment}
        latency_seconds = _fault(environment, _LATENCY_SECONDS)
        error_share = _fault(environment, _ERROR_SHARE)
        if latency_seconds:
            slow.append(f"{process.instance} by {latency_seconds:g} s")
        if error_share:
            failing.append(f"{process.instance} {100 * error_share:g} %")
    return [
        f"{kind} on purpose: {', '.join(found)}."
        for kind, found in (("Slow", slow), ("Failing", failing))
        if found
    ]


def _fault(environment: Mapping[str, str], setting: str) -> float:
    try:
        return float(environment.get(setting) or 0)
    except ValueError:
        return 0.0  # the process refuses it, and says so


def _url(host: str, port: int) -> str:
    """Where this machine finds what listens at a host."""
    if host == LOCALHOST or host in ALL_ADDRESSES:
        host = LOOPBACK
    return f"http://{with_port(host, port)}"


def _with_extra(
    planned: Sequence[PlannedProcess], extra: ExtraEnvironment, topology: Topology
) -> Iterator[PlannedProcess]:
    """The processes with what the user adds to their environments: the more exact name wins."""
    instances = (process.instance for process in planned)
    known = dict.fromkeys((EVERYONE, SANDBOX, *topology.services, *instances))
    for name in extra:
        if name not in known:
            raise ConfigurationError(
                f"--environment names {name!r}, which is not a process; there are "
                f"{', '.join(known)}."
            )
    for process in planned:
        environment = dict(process.environment)
        for name in (EVERYONE, process.service, process.instance):
            environment |= extra.get(name, {})
        yield replace(process, environment=environment)


def _places(
    name: str, position: int, topology: Topology, options: Options, ports: Ports | None
) -> Sequence[_Place]:
    """A service's processes; one at its usual ports where it is not ours to run."""
    has_grpc = topology.services[name].grpc is not None
    if ports is None:
        http_port = options.ports.get(name, usual_http(name, position))
        grpc_port = options.ports.get(grpc_name(name), usual_grpc(position))
        return [_Place(name, None, http_port, grpc_port if has_grpc else None)]
    return [
        _Place(
            instance,
            version,
            ports.http(name, position, number),
            ports.grpc(name, position, number) if has_grpc else None,
        )
        for number, (instance, version) in enumerate(_instances(name, options))
    ]


def _instances(name: str, options: Options) -> Iterator[tuple[str, Version | None]]:
    """What each process of a service is called, and its version: ``order``, ``order-2``,
    ``order-v2``, ``order-v2-2``.
    """
    count = options.replicas.get(name, 1)
    versions = options.versions.get(name, ())
    for version in versions or (None,):
        base = f"{name}-{version.name}" if version is not None and len(versions) > 1 else name
        for replica in range(count):
            yield base if count == 1 else f"{base}-{replica + 1}", version


def _by_weight(places: Sequence[_Place]) -> Sequence[_Place]:
    """The places in the order of their turns, each as often as its version's weight says."""
    weights = [place.version.weight if place.version is not None else 1 for place in places]
    common = math.gcd(*weights)
    return [places[position] for position in spread([weight // common for weight in weights])]


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
        ("--slow", map(_service_of, options.slow), "service", services),
        ("--fail", map(_service_of, options.fail), "service", services),
    )
    for option, names, kind, known in named:
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"{option} names {name!r}, which is not a {kind}; there are {', '.join(known)}."
                )
    _check_faults("--slow", options.slow, options)
    _check_faults("--fail", options.fail, options)
    if len(options.versions.get("frontend", ())) > 1:
        raise ConfigurationError(
            "--versions splits requests between versions of a service that others call, and people "
            "reach frontend directly: give it one version."
        )


def _service_of(name: str) -> str:
    return name.partition(":")[0]


def _check_faults(option: str, given: Iterable[str], options: Options) -> None:
    for name in given:
        service, separator, version = name.partition(":")
        if separator and version not in {one.name for one in options.versions.get(service, ())}:
            raise ConfigurationError(
                f"{option} names {name!r}, but --versions has no such version of {service}."
            )
