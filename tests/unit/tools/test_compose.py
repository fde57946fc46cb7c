"""compose.yaml: the shop of `python -m services`, in containers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.topology import load_topology
from services.local.plan import SANDBOX_KEY, Options, plan_processes
from services.local.ports import Ports
from services.local.programs import SANDBOX
from tools.compose import FILE, compose

TOPOLOGY = load_topology()
# Where a process listens and finds the others: a container has its usual ports, and names.
_PLACES = {
    *("HOST", "HTTP_PORT", "GRPC_PORT", "INTERNAL_HOST", "INTERNAL_PORT", "INSTANCE", "LOG_FILE"),
    *("HTTP_ADDRESSES", "GRPC_ADDRESSES", "SANDBOX_HOST", "SANDBOX_PORT"),
}
OBSERVERS = {"jaeger", "prometheus", "grafana"}
_SHOP_URL = "http://127.0.0.1:8080"


def declared() -> Mapping[str, Any]:
    """The file as Compose reads it."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def container(service: str) -> str:
    """How a service of the topology, or the sandbox, is called in the file."""
    return "stripe-sandbox" if service == SANDBOX else TOPOLOGY.services[service].workload


def _metrics_port(service: str) -> int:
    declared_service = TOPOLOGY.services[service]
    return declared_service.internal_port or declared_service.http.port


def settings(value: str, environment: Mapping[str, str]) -> str:
    """A value with `${NAME:-default}` and `${NAME-default}` replaced."""

    def replaced(match: re.Match[str]) -> str:
        name, is_default_for_empty, default = match.groups()
        found = environment.get(name)
        return default if found is None or (is_default_for_empty and not found) else found

    return re.sub(r"\$\{(\w+)(:?)-([^}]*)\}", replaced, value)


def test_it_follows_from_the_topology() -> None:
    assert FILE.read_text(encoding="utf-8") == compose(TOPOLOGY), "run `make compose`"


@pytest.mark.parametrize("own", [{}, {"STRIPE_API_KEY": "sk_test_of_mine", "STRIPE_API_BASE": ""}])
def test_each_container_is_told_what_the_local_runner_tells(
    tmp_path: Path, own: Mapping[str, str]
) -> None:
    ports = Ports({}, any_free=True)
    planned = plan_processes(
        TOPOLOGY,
        Options(data=tmp_path, free_ports=True),
        ports,
        {**own, "SHOP_URL": _SHOP_URL},
    )
    ports.close()
    urls = {process.service: process.url for process in planned}
    in_containers = {
        f"sqlite:///{tmp_path}": "mongodb://mongodb:27017/",
        str(tmp_path / "mails"): "/data/mails",
        str(tmp_path): "/data",
        urls.get(SANDBOX, "no sandbox"): "http://stripe-sandbox:12111",
    }
    services = declared()["services"]
    for process in planned:
        expected: dict[str, Any] = {
            name: in_containers.get(value, value)
            for name, value in process.environment.items()
            if name not in _PLACES
        }
        if process.service == "payment" and own:
            expected["STRIPE_API_KEY"] = own["STRIPE_API_KEY"]  # the runner's own environment
        if process.service == "notification":
            expected["SHOP_URL"] = _SHOP_URL
        service = TOPOLOGY.services.get(process.service)
        if service is not None and not service.database:
            del expected["DATABASE_URL"]  # it keeps nothing
        if process.service == "frontend":
            # Made once, and kept; here it is a file.
            assert len(expected.pop("FRONTEND_SECRET")) >= 32
            expected["SECRETS_FOLDER"] = "/data"
            watched = json.loads(expected.pop("SHOP_PROCESSES"))
            expected["SHOP_PROCESSES"] = [
                {
                    "service": one["service"],
                    "instance": container(one["service"]),
                    "url": f"http://{container(one['service'])}:{_metrics_port(one['service'])}",
                }
                for one in watched
            ]
        environment: Mapping[str, str] = services[container(process.service)]["environment"]
        told: dict[str, Any] = {name: settings(value, own) for name, value in environment.items()}
        for chosen in ("JAEGER_URL", "LOG_LEVEL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            assert told.pop(chosen, "") == ""  # as if it were not there
        if "SHOP_PROCESSES" in told:
            told["SHOP_PROCESSES"] = json.loads(told["SHOP_PROCESSES"])
        if own:
            assert told.pop("STRIPE_API_BASE", "") == ""
        assert {n: v for n, v in told.items() if n not in _PLACES} == expected, process.service


def test_how_much_services_log_can_be_chosen() -> None:
    services = declared()["services"]
    for name, service in TOPOLOGY.services.items():
        told = services[service.workload]["environment"]
        assert settings(told["LOG_LEVEL"], {"LOG_LEVEL": "debug"}) == "debug", name


def test_every_process_of_the_shop_has_its_container() -> None:
    others = {"mongodb", "secrets"}
    shop = {name for name, service in declared()["services"].items() if "profiles" not in service}
    assert shop == {*map(container, (*TOPOLOGY.services, SANDBOX)), *others}


def test_observers_come_when_they_are_asked_for() -> None:
    services = declared()["services"]
    observers = {name for name, service in services.items() if service.get("profiles")}
    assert observers == OBSERVERS
    for name in observers:
        assert services[name]["profiles"] == ["observability"]


def test_observers_find_their_files() -> None:
    services = declared()["services"]
    mounts = [mount.split(":") for name in OBSERVERS for mount in services[name]["volumes"]]
    sources = [source for source, *_ in mounts if source.startswith("./")]
    assert sources
    for source in sources:
        assert (FILE.parent / source).exists(), source
    named = {source for source, *_ in mounts if not source.startswith("./")}
    assert named <= declared()["volumes"].keys()


def test_each_service_is_told_where_spans_go() -> None:
    sent_to = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4317"}
    for service in TOPOLOGY.services:
        told = declared()["services"][container(service)]["environment"]
        assert settings(told["OTEL_EXPORTER_OTLP_ENDPOINT"], sent_to) == "http://jaeger:4317"


def test_only_this_machine_reaches_it() -> None:
    ports = {
        name: service["ports"]
        for name, service in declared()["services"].items()
        if service.get("ports")
    }
    assert ports.keys() == {"frontend", "stripe-sandbox", *OBSERVERS}
    for published in ports.values():
        assert all(port.startswith("127.0.0.1:") for port in published)


def test_a_network_holds_those_alone_who_have_business_there() -> None:
    file = declared()
    members: dict[str, set[str]] = {name: set() for name in file["networks"]}
    for name, service in file["services"].items():
        for network in service.get("networks", ()):
            members[network].add(name)
    stores = {each.workload for each in TOPOLOGY.services.values() if each.database}
    assert members == {
        "shop": {*(each.workload for each in TOPOLOGY.services.values()), "jaeger", "prometheus"},
        "observability": OBSERVERS,
        "stores": {*stores, "mongodb"},
        "stripe": {"payment-service", "stripe-sandbox"},
    }
    assert file["networks"]["stores"] == {"internal": True}
    assert file["services"]["secrets"]["network_mode"] == "none"


def test_it_holds_no_secret() -> None:
    text = FILE.read_text(encoding="utf-8").replace(SANDBOX_KEY, "")
    assert not re.search(r"(?i)(secret|password|key)\w*: *[^/ $\n{][\w-]{7,}", text)


def test_containers_may_do_no_more_than_pods() -> None:
    for name, service in declared()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("user", "").startswith("0"), name


def test_the_frontend_waits_until_all_others_are_well() -> None:
    services = declared()["services"]
    waits_for = {
        name: each["condition"] for name, each in services["frontend"]["depends_on"].items()
    }
    assert waits_for.pop("secrets") == "service_completed_successfully"
    others = {each.workload for name, each in TOPOLOGY.services.items() if name != "frontend"}
    assert waits_for == dict.fromkeys(others, "service_healthy")
    ports = {name: container.get("healthcheck") for name, container in services.items()}
    for name, service in TOPOLOGY.services.items():
        asked = f"http://127.0.0.1:{service.internal_port or service.http.port}/readyz"
        assert asked in ports[service.workload]["test"][-1], name


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    (script,) = declared()["services"]["secrets"]["command"]
    script = script.replace("/data", str(tmp_path))
    made: list[str] = []
    for _ in range(2):
        subprocess.run(["sh", "-euc", script], check=True)
        made.append((tmp_path / "frontend_secret").read_text(encoding="utf-8"))
    assert made[0] == made[1]
    assert len(made[0].strip()) >= 32


@pytest.mark.needs_programs("docker compose")
def test_compose_takes_it() -> None:
    command = ["docker", "compose", "--file", str(FILE), "config", "--quiet"]
    subprocess.run(command, check=True)
