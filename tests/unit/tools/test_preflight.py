"""`make preflight` says what a laptop lacks, by facts that are made up and by those of this one."""

from __future__ import annotations

import ast
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.cluster import Object
from tests.testkit.goldens import golden_objects
from tests.unit.observability.test_manifests import manifests
from tests.unit.tools.test_bundle_up import write_bundle
from tools import preflight
from tools.needs import ISTIO_VERSION, KIND_VERSION, LINKERD_VERSION, PORTS
from tools.preflight import Docker, Facts, PreflightLine, PreflightTarget, clashing, findings

ROOT = Path(__file__).parents[3]
MESHES = ("none", "istio", "linkerd")
DOCKER = Docker("amd64", cores=8, memory_mib=15_900, cgroup="2", folder="/var/lib/docker")
VERSIONS: Mapping[str, str | None] = {
    "docker": "Docker version 28.2.2, build e6534b4",
    "kind": f"kind {KIND_VERSION} go1.25.1 linux/amd64",
    "kubectl": "Client Version: v1.34.1\nKustomize Version: v5.7.1",
    "helm": "v3.18.4+gd80839c",
    "istioctl": f"client version: {ISTIO_VERSION}",
    "linkerd": LINKERD_VERSION,
}
GOOD = Facts(
    system="Linux",
    kernel="6.8.0-45-generic",
    folder="/home/ada/meshmart",
    python=(3, 12),
    lacks=(),
    cores=8,
    memory_mib=16_000,
    free_disk_mib=100_000,
    cgroup="2",
    busy_ports=frozenset(),
    clusters=(),
    watches=524_288,
    instances=512,
    open_files=1_048_576,
    versions=VERSIONS,
    docker=DOCKER,
    docker_said="",
    is_loopback_open=True,
    answer_by_proxy="",
    host_addresses=("127.0.0.1",),
    clashing_routes=(),
)
PLAIN = PreflightTarget("none", is_observed=False, cluster="meshmart", bundle=None)
ISTIO = PLAIN._replace(mesh="istio")
WSL2 = "5.15.153.1-microsoft-standard-WSL2"


def not_ok(facts: Facts, wanted: PreflightTarget = PLAIN) -> list[PreflightLine]:
    return [each for each in findings(facts, wanted) if each.level != "ok"]


@pytest.mark.parametrize("is_observed", [False, True])
@pytest.mark.parametrize("mesh", MESHES)
def test_a_good_laptop_lacks_nothing(mesh: str, *, is_observed: bool) -> None:
    found = findings(GOOD, PreflightTarget(mesh, is_observed, "meshmart", None))
    assert {each.level for each in found} == {"ok"}
    assert all("\n" not in str(each) for each in found)


def with_version(tool: str, said: str | None) -> Facts:
    return GOOD._replace(versions={**VERSIONS, tool: said})


# What a laptop has, what is wanted of it, and what is said then.
MISSING: Mapping[str, tuple[Facts, PreflightTarget, str]] = {
    "win": (GOOD._replace(system="Windows"), PLAIN, "wsl --install"),
    "wsl1": (GOOD._replace(kernel="4.4.0-19041-Microsoft"), PLAIN, "WSL 1"),
    "python": (GOOD._replace(python=(3, 10)), PLAIN, "3.11 or newer"),
    "venv": (GOOD._replace(lacks=["ensurepip"]), PLAIN, "sudo apt install python3.12-venv"),
    "helm": (with_version("helm", None), PLAIN, "https://helm.sh"),
    "old helm": (with_version("helm", "v3.9.0"), PLAIN, "3.14 is needed"),
    "old kind": (with_version("kind", "kind v0.29.0 go1.24"), PLAIN, "0.32"),
    "docker": (with_version("docker", "Docker version 19.03.8"), PLAIN, "20.10"),
    "old kubectl": (with_version("kubectl", "Client Version: v1.32.4"), PLAIN, "1.33 to 1.35"),
    "istioctl": (with_version("istioctl", "1.30.1"), ISTIO, "1.31.0"),
    "docker is off": (
        GOOD._replace(docker=None, docker_said="Cannot connect to the Docker daemon"),
        PLAIN,
        "start it",
    ),
    "docker's group": (
        GOOD._replace(docker=None, docker_said="permission denied while trying to connect"),
        PLAIN,
        "usermod -aG docker",
    ),
    "memory of Docker's machine": (
        GOOD._replace(docker=DOCKER._replace(memory_mib=3_900)),
        ISTIO,
        "MESH=istio needs 4,674 MiB, Docker has 3,900: give Docker more",
    ),
    "memory of WSL": (
        GOOD._replace(kernel=WSL2, docker=DOCKER._replace(memory_mib=1_800)),
        PLAIN,
        ".wslconfig",
    ),
    "cores": (GOOD._replace(docker=DOCKER._replace(cores=2)), ISTIO, "needs 3"),
    "disk": (GOOD._replace(free_disk_mib=3_000), PLAIN, "docker system prune"),
    "instances": (GOOD._replace(instances=64), PLAIN, "max_user_instances=512"),
    "port": (GOOD._replace(busy_ports=frozenset({8080})), PLAIN, "port 8080"),
    "loopback": (GOOD._replace(is_loopback_open=False), PLAIN, "a VPN or"),
    "proxy": (
        GOOD._replace(answer_by_proxy="HTTP Error 403: Forbidden"),
        PLAIN,
        "no_proxy=localhost,127.0.0.1,ecommerce.example.com",
    ),
}
HINTS: Mapping[str, tuple[Facts, PreflightTarget, str]] = {
    "windows' disk": (GOOD._replace(kernel=WSL2, folder="/mnt/c/meshmart"), PLAIN, "home folder"),
    "cgroup": (GOOD._replace(docker=DOCKER._replace(cgroup="1")), PLAIN, "cgroup"),
    "memory beside it": (
        GOOD._replace(memory_mib=6_000, docker=DOCKER._replace(memory_mib=6_000)),
        ISTIO,
        "close what",
    ),
    "watches": (GOOD._replace(watches=65_536), PLAIN, "max_user_watches=524288"),
    "open files": (GOOD._replace(open_files=256), PLAIN, "ulimit -n"),
    "port of an observer": (
        GOOD._replace(busy_ports=frozenset({9090})),
        PLAIN._replace(is_observed=True),
        "Prometheus (9100:9090)",
    ),
    "route": (
        GOOD._replace(clashing_routes=["172.18.0.0/16 of tun0"]),
        PLAIN,
        "disconnect the VPN",
    ),
    "host": (GOOD._replace(host_addresses=()), ISTIO, "/etc/hosts"),
}


@pytest.mark.parametrize("case", [*MISSING, *HINTS])
def test_one_thing_is_one_line_that_says_what_to_do(case: str) -> None:
    facts, wanted, said = MISSING[case] if case in MISSING else HINTS[case]
    (finding,) = not_ok(facts, wanted)
    assert finding.level == ("missing" if case in MISSING else "hint")
    assert said in finding.text
    assert "\n" not in str(finding)


@pytest.mark.parametrize("tool", ["istioctl", "linkerd"])
def test_only_the_tool_of_the_mesh_is_needed(tool: str) -> None:
    assert not not_ok(with_version(tool, None))
    mesh = {"istioctl": "istio", "linkerd": "linkerd"}[tool]
    (finding,) = not_ok(with_version(tool, None), PLAIN._replace(mesh=mesh))
    assert finding.level == "missing"


def test_what_only_others_need_is_not_asked_for() -> None:
    facts = GOOD._replace(host_addresses=(), busy_ports=frozenset({3000, 20001}))
    assert not not_ok(facts)
    linkerd = PreflightTarget("linkerd", is_observed=True, cluster="meshmart", bundle=None)
    assert len(not_ok(facts, linkerd)) == 2  # of Grafana and of the host, not of Kiali


def test_the_own_cluster_may_have_the_ports() -> None:
    facts = GOOD._replace(busy_ports=frozenset(PORTS))
    assert len(not_ok(facts)) == len(PORTS)
    assert not not_ok(facts._replace(clusters=["meshmart"]))
    assert not_ok(facts._replace(clusters=["another"]))


def test_a_bundle_has_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bundle.contents.machine", lambda: "Linux-x86_64")
    wanted = ISTIO._replace(bundle=write_bundle(tmp_path, ("amd64",)))
    assert not not_ok(GOOD, wanted)
    (wheels,) = not_ok(GOOD._replace(python=(3, 13)), wanted)
    assert "no wheels for Python 3.13 on Linux-x86_64, only for 3.12" in wheels.text
    (images,) = not_ok(GOOD._replace(docker=DOCKER._replace(architecture="arm64")), wanted)
    assert "made for amd64" in images.text
    (version,) = not_ok(with_version("istioctl", "client version: 1.31.7"), wanted)
    assert "the bundle was made with another one" in version.text


def test_a_route_of_a_vpn_that_takes_dockers_addresses_is_found() -> None:
    header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    rows = [
        ("eth0", "00000000", "00000000"),  # the default route
        ("docker0", "000011AC", "0000FFFF"),
        ("br-1f", "000012AC", "0000FFFF"),
        ("tun0", "000012AC", "0000FFFF"),
        ("tun0", "000010AC", "0000F0FF"),  # 172.16.0.0/12: Docker's own are narrower
        ("tun0", "0000A8C0", "00FFFFFF"),
        ("wg0", "050011AC", "FFFFFFFF"),
    ]
    table = header + "".join(
        f"{name}\t{target}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n"
        for name, target, mask in rows
    )
    assert clashing(table) == ["172.18.0.0/16 of tun0", "172.17.0.5/32 of wg0"]


# What pods ask for follows from the manifests.


def asked(objects: Sequence[Object]) -> tuple[int, int]:
    """MiB and thousandths of a core, of all pods with the proxies that they get."""
    memory = cpu = 0.0
    for each in objects:
        if each["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        if each["metadata"]["name"].endswith("-v2"):
            continue  # of a scenario
        template = each["spec"]["template"]
        marks: Mapping[str, str] = template["metadata"].get("annotations", {})
        requests: list[Mapping[str, Any]] = [
            container["resources"]["requests"] for container in template["spec"]["containers"]
        ]
        for prefix, of_cpu, of_memory in (
            ("sidecar.istio.io/", "proxyCPU", "proxyMemory"),
            ("config.linkerd.io/", "proxy-cpu-request", "proxy-memory-request"),
        ):
            if prefix + of_cpu in marks:
                requests.append(
                    {"cpu": marks[prefix + of_cpu], "memory": marks[prefix + of_memory]}
                )
        memory += sum(int(each["memory"].removesuffix("Mi")) for each in requests)
        cpu += sum(int(each["cpu"].removesuffix("m")) for each in requests)
    return int(memory), int(cpu)


@pytest.mark.parametrize(("mesh", "golden"), [("none", "default"), *((m, m) for m in MESHES[1:])])
def test_the_room_for_the_shop_is_what_its_pods_ask_for(mesh: str, golden: str) -> None:
    assert preflight.SHOP[mesh] == asked(golden_objects(golden))


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize(("mesh", "folder"), [("none", "plain"), *((m, m) for m in MESHES[1:])])
def test_the_room_for_the_observers_is_what_their_pods_ask_for(mesh: str, folder: str) -> None:
    assert preflight.OBSERVERS[mesh] == asked(manifests(folder))


def test_a_larger_shop_needs_more() -> None:
    def needed(mesh: str, *, is_observed: bool) -> int:
        lines = [
            each.text
            for each in findings(GOOD, PreflightTarget(mesh, is_observed, "meshmart", None))
        ]
        (found,) = (match for line in lines if (match := re.search(r"needs ([\d,]+) MiB", line)))
        return int(found[1].replace(",", ""))

    assert needed("none", is_observed=False) < needed("linkerd", is_observed=False)
    assert needed("linkerd", is_observed=False) < needed("istio", is_observed=False)
    assert needed("istio", is_observed=False) < needed("istio", is_observed=True)


# This machine


def run(*options: str, environment: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tools.preflight", *options],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_of_this_machine_it_tells_the_truth(tmp_path: Path) -> None:
    """With an empty PATH no program is there, whatever this machine has."""
    status, lines = run("--mesh", "istio", environment={"PATH": str(tmp_path)})
    assert status == 1
    for tool in ("docker", "kind", "kubectl", "helm", "istioctl"):
        assert any(re.match(rf"missing +{tool}: install it", line) for line in lines), tool
    memory_mib = math.floor(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20)
    assert any(f"this machine has {memory_mib:,}" in line for line in lines)
    missing = sum(line.startswith("missing") for line in lines)
    assert lines[-1].startswith(f"{missing} missing, ")


def test_a_port_that_somebody_has_is_seen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert preflight.is_busy(server.getsockname()[1])
        port = server.getsockname()[1]
    assert not preflight.is_busy(port)


def test_a_proxy_that_catches_this_machine_is_seen(tmp_path: Path) -> None:
    """Somebody answers there, or nobody does: either way curl does not reach the shop."""
    nobody = {"PATH": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    _, lines = run(environment=nobody)
    assert any("a proxy catches 127.0.0.1" in line for line in lines)
    _, lines = run(environment={**nobody, "no_proxy": "localhost,127.0.0.1"})
    assert not any("a proxy catches" in line for line in lines)


def test_a_folder_that_is_no_bundle_is_missing(tmp_path: Path) -> None:
    status, lines = run("--bundle", str(tmp_path))
    assert status == 1
    assert "is no bundle" in lines[0]


@pytest.mark.parametrize(
    "module", ["preflight.py", "needs.py", "bundle/__init__.py", "bundle/contents.py"]
)
def test_it_runs_on_a_python_that_is_too_old_and_without_packages(module: str) -> None:
    tree = ast.parse((ROOT / "tools" / module).read_text("utf-8"), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {*sys.stdlib_module_names, "tools"}
