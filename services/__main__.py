"""``python -m services`` runs the whole shop on this machine, ``python -m services NAME`` one
service, ``python -m services backup|restore|audit`` looks after the shop's data.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from services.common.errors import ConfigurationError
from services.common.listening import LOCALHOST
from services.common.serving.process import EXIT_CONFIGURATION
from services.common.settings import MAX_FAULT_LATENCY_SECONDS
from services.common.topology import load_topology
from services.local.backup import back_up, restore
from services.local.hiding import hide_secrets
from services.local.plan import Options, Version, read_environment
from services.local.programs import run_program
from services.local.runner import default_start_method, run_shop

Value = TypeVar("Value")

_SECONDS = f"times such as 300ms or 0.3s, up to {MAX_FAULT_LATENCY_SECONDS:g}s"
_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s)")
_PER_CENT = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)%")
_VERSION = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,32})(?::(?P<weight>[1-9][0-9]?))?")


def main() -> int:
    """Reads the command line and runs what it asks for. Gives the exit status."""
    os.umask(0o077)  # whatever this process and its children store is for this user alone
    try:
        if sys.argv[1:2] and sys.argv[1] in _COMMANDS:
            return _COMMANDS[sys.argv[1]](sys.argv[2:])
        arguments = _parser().parse_args()
        if arguments.service is not None:
            return _run_one(arguments.service, reload=arguments.reload)
        hide_secrets()
        ports = [port for port in arguments.ports.split(",") if port != "free"]
        options = Options(
            data=arguments.data,
            only=tuple(arguments.only.split(",")) if arguments.only else (),
            ports=_assignments("--ports", ",".join(ports), _port, "ports from 1 to 65535"),
            free_ports="free" in arguments.ports.split(","),
            host=_host(arguments.host),
            replicas=_assignments("--replicas", arguments.replicas, _count, "counts from 1 to 9"),
            versions=_versions(arguments.versions),
            variants=_assignments("--variants", arguments.variants, str),
            slow=_assignments("--slow", arguments.slow, _seconds, _SECONDS),
            fail=_assignments("--fail", arguments.fail, _share, "shares from 0% to 100%"),
            environment=read_environment(arguments.environment) if arguments.environment else {},
        )
        return run_shop(options, arguments.start_method, fresh=arguments.fresh)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION


def _run_one(service: str, *, reload: bool) -> int:
    if reload:
        load_topology().service(service)  # refuses a name that it does not know
        program = [sys.executable, "-m", "services.local.reloading", service]
        os.execv(sys.executable, program)  # noqa: S606  the same Python
    return run_program(service)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services",
        description="Runs the whole shop on this machine, or one service of it.",
        epilog="The settings of a service are environment variables; a wrong one stops it. "
        f"Other commands: {', '.join(_COMMANDS)} (each with --help).",
    )
    parser.add_argument("service", nargs="?", help="run only this service, as in a container")
    parser.add_argument(
        "--reload", action="store_true", help="restart this service when its code changes"
    )
    parser.add_argument("--only", metavar="A,B", help="run only these services")
    parser.add_argument(
        "--ports",
        default="",
        metavar="NAME=PORT,…",
        help="ports to use: SERVICE=PORT for HTTP, SERVICE.grpc=PORT, SERVICE.internal=PORT, "
        "stripe_sandbox=PORT, `free` for free ports",
    )
    parser.add_argument(
        "--host",
        default=LOCALHOST,
        metavar="ADDRESS",
        help="the address to listen at (%(default)s); `::` in a container or for a LAN, where "
        "links in mails need SHOP_URL",
    )
    _add_data(parser)
    parser.add_argument("--fresh", action="store_true", help="delete the shop's data first")
    parser.add_argument(
        "--replicas", default="", metavar="NAME=N,…", help="number of processes: product=2"
    )
    parser.add_argument(
        "--versions",
        default="",
        metavar="NAME=V,…",
        help="version of a service: product=v2; product=v1:9,v2:1 runs both, and v2 gets one "
        "request in ten",
    )
    parser.add_argument(
        "--variants", default="", metavar="NAME=V,…", help="variant: frontend=beta-features"
    )
    parser.add_argument(
        "--slow",
        default="",
        metavar="NAME=TIME,…",
        help="delay the answers of a service: product=0.3s, or of one version: product:v2=300ms",
    )
    parser.add_argument(
        "--fail",
        default="",
        metavar="NAME=SHARE,…",
        help="let a share of answers fail: product=20%%, or of one version: product:v2=20%%",
    )
    parser.add_argument(
        "--environment",
        type=Path,
        metavar="FILE",
        help='JSON with settings of processes: {"*" or service or instance: {NAME: VALUE}}',
    )
    parser.add_argument(
        "--start-method",
        choices=("fork", "spawn"),
        default=default_start_method(),
        help="how processes are started (default: %(default)s)",
    )
    return parser


def _back_up(given: Sequence[str]) -> int:
    parser = _command_parser(
        "backup", "Copies the shop's data as it is at one moment. The shop may run."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder for the copy")
    arguments = parser.parse_args(given)
    back_up(arguments.data, arguments.folder, print)
    return 0


def _restore(given: Sequence[str]) -> int:
    parser = _command_parser(
        "restore", "Replaces the shop's data with a backup. Stop the shop first."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of the backup")
    arguments = parser.parse_args(given)
    restore(arguments.folder, arguments.data, print)
    return 0


def _audit(given: Sequence[str]) -> int:
    parser = _command_parser(
        "audit",
        "Compares what all services and Stripe have stored, order by order. "
        "The exit status is 1 if something disagrees, 2 if Stripe or a database cannot be reached, "
        "78 if an argument or a setting is wrong, or a store is missing.",
    )
    parser.add_argument(
        "--mend",
        action="store_true",
        help="repeat the steps of orders whose effects a restored store has lost; "
        "best while the shop is stopped",
    )
    arguments = parser.parse_args(given)
    # The shop itself need not load what only this needs.
    from services.audit.command import audit  # noqa: PLC0415
    from services.common.observing.logs import configure_logging  # noqa: PLC0415

    configure_logging(service="audit", version="", instance="", level="critical", file=None)
    return audit(arguments.data, print, mend=arguments.mend)


def _command_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m services {name}", description=description)
    _add_data(parser)
    return parser


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "backup": _back_up,
    "restore": _restore,
    "audit": _audit,
}


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=_folder,
        default=Path(".data"),
        metavar="DIR",
        help="the folder of the shop's data (.data)",
    )


def _folder(text: str) -> Path:
    # As a path, an empty text is the working directory, which would be closed to all others.
    if not text.strip():
        raise ConfigurationError(f"--data takes a folder, not {text!r}.")
    return Path(text)


def _host(text: str) -> str:
    # To the system's resolver, an empty name is every address of the machine.
    if not re.fullmatch(r"[^\s/]+", text):
        raise ConfigurationError(
            f"--host takes an address or a name, such as {LOCALHOST} or ::, not {text!r}."
        )
    return text


def _assignments(
    option: str, text: str, convert: Callable[[str], Value], values_are: str = ""
) -> dict[str, Value]:
    form = "NAME=VALUE,…" + (f" with {values_are}" if values_are else "")
    values: dict[str, Value] = {}
    for part in filter(None, text.split(",")):
        name, separator, value = part.partition("=")
        try:
            if not separator:
                raise ValueError
            values[name] = convert(value)
        except ValueError:
            raise ConfigurationError(f"{option} takes {form}, not {part!r}.") from None
    return values


def _versions(text: str) -> dict[str, Sequence[Version]]:
    """``product=v2`` is one version; ``product=v1:9,v2:1`` is two, with their weights."""
    given: dict[str, list[str]] = {}
    last: list[str] | None = None
    for part in filter(None, text.split(",")):
        name, separator, version = part.rpartition("=")
        if separator and name and name not in given:
            last = given[name] = [version]
        elif not separator and last is not None:
            last.append(version)
        else:
            raise _not_versions(part)
    return {name: _versions_of_one(name, versions) for name, versions in given.items()}


def _versions_of_one(service: str, texts: Sequence[str]) -> Sequence[Version]:
    versions: list[Version] = []
    for text in texts:
        found = _VERSION.fullmatch(text)
        if found is None or (found["weight"] is None and len(texts) > 1):
            raise _not_versions(text)
        versions.append(Version(found["name"], int(found["weight"] or 1)))
    if len({version.name for version in versions}) < len(versions):
        raise _not_versions(f"{service}={','.join(texts)}")
    return versions


def _not_versions(text: str) -> ConfigurationError:
    return ConfigurationError(
        "--versions takes NAME=VERSION,…, or NAME=VERSION:WEIGHT,VERSION:WEIGHT,… with different "
        f"versions and weights from 1 to 99, not {text!r}."
    )


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError
    seconds = float(found["number"]) / (1000 if found["unit"] == "ms" else 1)
    if seconds > MAX_FAULT_LATENCY_SECONDS:
        raise ValueError
    return seconds


def _share(text: str) -> float:
    found = _PER_CENT.fullmatch(text)
    if found is None or float(found["number"]) > 100:
        raise ValueError
    return float(found["number"]) / 100


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 9:
        raise ValueError
    return count


if __name__ == "__main__":
    sys.exit(main())
