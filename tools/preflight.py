"""What this machine lacks for the shop on kind: ``python3 -m tools.preflight``.

One line for each thing, with what to do. The exit status is 1 when something is missing, and 0 when
there is nothing or only hints. It changes nothing, and needs no package and no network.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tools import needs
from tools.bundle import contents
from tools.bundle.contents import Bundle, BundleError
from tools.needs import CLUSTER_TOOLS, MESH_TOOLS, MESH_VERSIONS, TOOLS, VERSION_COMMANDS

# What pods ask for, in MiB and in thousandths of a core: one that finds less room on the node is
# not started. The shop's and the observers' are summed up from the manifests, and compared with
# them by a test; kind's are those of kubeadm and kindnet, Istio's those of its charts, Linkerd's
# those of mesh/linkerd.
_KUBERNETES = (290, 950)
SHOP = {"none": (1312, 350), "istio": (1952, 450), "linkerd": (1632, 450)}
_MESH = {"none": (0, 0), "istio": (2048 + 128, 600), "linkerd": (64, 135)}
OBSERVERS = {"none": (768, 100), "istio": (896, 125), "linkerd": (832, 120)}
# A roll-out has the old and the new pod side by side, and labs bring pods of their own.
_ROOM = (256, 200)
# What is used, in MiB: the shop's as README.md measured it, with its proxies and the sandbox.
# Kubernetes' own and the control planes' are estimates.
_USED = {"none": 816, "istio": 1141 + 59 + 300, "linkerd": 874 + 59 + 300}
_KUBERNETES_USED = 1024
# For the system, an editor and a browser, where Docker has no virtual machine of its own.
_BESIDE_MIB = 2048
# Of images and data, estimated: kind's node, the shop and MongoDB; a mesh; the observers.
_DISK_MIB = (4096, 1536, 2048)

# The kernel's own values, below which pods fail, and those that kind's "known issues" advise.
_WATCHES = (8_192, 524_288)
_INSTANCES = (128, 512)
_OPEN_FILES = 1_024
# For the port-forwards of docs/observability.md.
_OBSERVERS_PORTS = {3000: "Grafana", 9090: "Prometheus", 16686: "Jaeger", 20001: "Kiali"}
_HOST = "ecommerce.example.com"
# From here Docker and kind take the networks of containers.
_CONTAINERS = tuple(ipaddress.ip_network(each) for each in ("172.17.0.0/16", "172.18.0.0/16"))
_PROBE_SECONDS = 3.0
_COMMAND_SECONDS = 20.0
_MIB = 1024 * 1024
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Docker(NamedTuple):
    """What Docker says of where containers run: this machine, or a virtual one.

    :ivar architecture: ``amd64`` or ``arm64``.
    :ivar folder: where it keeps images.
    """

    architecture: str
    cores: int
    memory_mib: int
    cgroup: str
    folder: str


class Facts(NamedTuple):
    """What there is.

    :ivar system: ``Linux``, ``Darwin`` or ``Windows``.
    :ivar kernel: its release.
    :ivar lacks: Python's own modules that are missing.
    :ivar cgroup: ``1`` or ``2`` by this machine's files; empty where it has none.
    :ivar free_disk_mib: in the folder of Docker's images, or else in the project's.
    :ivar busy_ports: of those that are looked at.
    :ivar clusters: kind's.
    :ivar watches: how many files may be watched (inotify); None where there is no such limit.
    :ivar versions: what each program says of itself; None of one that is not there.
    :ivar docker: None where it does not answer.
    :ivar docker_said: why it does not.
    :ivar is_loopback_open: whether a connection to 127.0.0.1 arrives.
    :ivar answer_by_proxy: what came instead of the own server's answer, when it was asked as curl
        would; empty if that answer came.
    :ivar host_addresses: of the shop's name in a mesh.
    :ivar clashing_routes: routes of other interfaces than Docker's that take its addresses.
    """

    system: str
    kernel: str
    folder: str
    python: tuple[int, int]
    lacks: Sequence[str]
    cores: int
    memory_mib: int
    free_disk_mib: int
    cgroup: str
    busy_ports: frozenset[int]
    clusters: Sequence[str]
    watches: int | None
    instances: int | None
    open_files: int
    versions: Mapping[str, str | None]
    docker: Docker | None
    docker_said: str
    is_loopback_open: bool
    answer_by_proxy: str
    host_addresses: Sequence[str]
    clashing_routes: Sequence[str]


class PreflightTarget(NamedTuple):
    """What is to run.

    :ivar mesh: ``none``, ``istio`` or ``linkerd``.
    :ivar cluster: its name.
    :ivar bundle: what it is to come from; None for the network.
    """

    mesh: str
    is_observed: bool
    cluster: str
    bundle: Bundle | None


class PreflightLine(NamedTuple):
    """One line.

    :ivar level: ``ok``, ``hint`` or ``missing``.
    """

    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.text}"


def findings(facts: Facts, wanted: PreflightTarget) -> list[PreflightLine]:
    """What is there, what is missing, and what to do."""
    if facts.system == "Windows":
        return [_missing("Windows itself: work in WSL 2 (`wsl --install`), and call this there")]
    return [
        *_of_system(facts),
        *_of_python(facts, wanted),
        *_of_tools(facts, wanted),
        *_of_docker(facts, wanted),
        *_of_size(facts, wanted),
        *_of_limits(facts),
        *_of_network(facts, wanted),
    ]


def _of_system(facts: Facts) -> Iterator[PreflightLine]:
    kernel = facts.kernel.lower()
    if "microsoft" not in kernel:
        return
    if "wsl2" not in kernel and "microsoft-standard" not in kernel:
        yield _missing("WSL 1 runs no containers: `wsl --set-version DISTRIBUTION 2` in PowerShell")
        return
    yield _ok("WSL 2")
    if facts.folder.startswith("/mnt/"):
        yield _hint(
            f"{facts.folder} is Windows' disk, which is slow from here: clone the project into "
            "your home folder of Linux"
        )


def _of_python(facts: Facts, wanted: PreflightTarget) -> Iterator[PreflightLine]:
    version = _dotted(facts.python)
    if facts.python < needs.PYTHON_FLOOR:
        floor = _dotted(needs.PYTHON_FLOOR)
        yield _missing(f"Python {version} is too old: install {floor} or newer, make PYTHON=...")
        return
    if facts.lacks:
        yield _missing(
            f"Python {version} lacks {', '.join(facts.lacks)}: on Debian and Ubuntu "
            f"`sudo apt install python{version}-venv`"
        )
    else:
        yield _ok(f"Python {version}, with venv")
    if wanted.bundle is not None:
        made = wanted.bundle.manifest.wheels
        if (version, contents.machine()) not in {(each.python, each.machine) for each in made}:
            has = sorted({f"{each.python} on {each.machine}" for each in made})
            yield _missing(
                f"the bundle has no wheels for Python {version} on {contents.machine()}, only for "
                f"{', '.join(has)}: run `make .venv/.runtime` where there is a network"
            )


def _of_tools(facts: Facts, wanted: PreflightTarget) -> Iterator[PreflightLine]:
    for tool in (*CLUSTER_TOOLS, *MESH_TOOLS[wanted.mesh]):
        said = facts.versions[tool]
        if said is None:
            yield _missing(f"{tool}: install it, {TOOLS[tool]}")
        elif fault := _fault_of_version(tool, said, wanted.bundle):
            yield _missing(f"{tool} says {_first_line(said)}, and {fault}: {TOOLS[tool]}")
        else:
            yield _ok(f"{tool}: {_first_line(said)}")


def _fault_of_version(tool: str, said: str, bundle: Bundle | None) -> str:
    """Empty when there is none."""
    if tool in MESH_VERSIONS:
        if bundle is not None:
            binary = bundle.binary(tool)
            is_same = binary is not None and binary.version == said
            return "" if is_same else "the bundle was made with another one"
        wanted = MESH_VERSIONS[tool]
        return "" if needs.is_tried_with(said, wanted) else f"the shop is tried with {wanted}"
    numbers = re.search(r"(\d+)\.(\d+)", said)
    if numbers is None:
        return "that is no version"
    found = (int(numbers[1]), int(numbers[2]))
    if tool == "kubectl":
        node = _numbers(needs.NODE_IMAGE)
        is_near = found[0] == node[0] and abs(found[1] - node[1]) <= 1
        span = f"{node[0]}.{node[1] - 1} to {node[0]}.{node[1] + 1}"
        return "" if is_near else f"a cluster of {_dotted(node)} needs {span}"
    floors = {
        "docker": needs.DOCKER_FLOOR,
        "kind": _numbers(needs.KIND_VERSION),
        "helm": needs.HELM_FLOOR,
    }
    return "" if found >= floors[tool] else f"{_dotted(floors[tool])} is needed"


def _of_docker(facts: Facts, wanted: PreflightTarget) -> Iterator[PreflightLine]:
    if facts.versions["docker"] is None:
        return
    if facts.docker is None:
        what = "start it (Docker Desktop, or `sudo systemctl start docker`)"
        if "permission denied" in facts.docker_said.lower():
            what = "`sudo usermod -aG docker $USER`, then log in again"
        yield _missing(f"Docker does not answer ({_in_a_line(facts.docker_said)}): {what}")
    if facts.docker is not None and wanted.bundle is not None:
        try:
            wanted.bundle.images(
                facts.docker.architecture, wanted.mesh, is_observed=wanted.is_observed
            )
            yield _ok(f"the bundle is for {wanted.bundle.has()}")
        except BundleError as error:
            yield _missing(str(error))
    cgroup = facts.cgroup if facts.docker is None else facts.docker.cgroup
    if cgroup == "2":
        yield _ok("cgroup version 2")
    elif cgroup == "1":
        yield _hint(
            "cgroup version 1, which newer Kubernetes refuses: a newer system has version 2; in "
            "WSL `kernelCommandLine = cgroup_no_v1=all` below [wsl2] in %UserProfile%\\.wslconfig"
        )


def _of_size(facts: Facts, wanted: PreflightTarget) -> Iterator[PreflightLine]:
    mesh, is_observed = wanted.mesh, wanted.is_observed
    asked = [_KUBERNETES, SHOP[mesh], _MESH[mesh], _ROOM]
    asked += [OBSERVERS[mesh]] if is_observed else []
    used_mib = _KUBERNETES_USED + _USED[mesh] + (OBSERVERS[mesh][0] if is_observed else 0)
    memory_mib = max(sum(memory for memory, _ in asked), used_mib)
    cores = math.ceil(sum(millicores for _, millicores in asked) / 1000)
    what = f"MESH={mesh}{' OBSERVABILITY=1' if is_observed else ''}"

    where, has_mib, has_cores = "this machine", facts.memory_mib, facts.cores
    is_virtual = False
    if facts.docker is not None:
        where, has_mib, has_cores = "Docker", facts.docker.memory_mib, facts.docker.cores
        is_virtual = facts.docker.memory_mib < 0.9 * facts.memory_mib
    more = "give Docker more (Settings, Resources)" if is_virtual else "use a larger one"
    if "microsoft" in facts.kernel.lower():
        more = "`memory=8GB` below [wsl2] in %UserProfile%\\.wslconfig, then `wsl --shutdown`"
    if has_mib < memory_mib:
        yield _missing(f"memory: {what} needs {memory_mib:,} MiB, {where} has {has_mib:,}: {more}")
    elif not is_virtual and has_mib < memory_mib + _BESIDE_MIB:
        yield _hint(
            f"memory: {where} has {has_mib:,} MiB, of which {what} takes {memory_mib:,}: close "
            "what you do not need"
        )
    else:
        yield _ok(f"memory: {what} needs {memory_mib:,} MiB, {where} has {has_mib:,}")
    if has_cores < cores:
        yield _missing(f"cores: {what} needs {cores}, {where} has {has_cores}: {more}")
    else:
        yield _ok(f"cores: {what} needs {cores}, {where} has {has_cores}")
    disk_mib = _DISK_MIB[0] + (_DISK_MIB[1] if mesh != "none" else 0)
    disk_mib += _DISK_MIB[2] if is_observed else 0
    if facts.free_disk_mib < disk_mib:
        yield _missing(
            f"disk: images take about {disk_mib:,} MiB, {facts.free_disk_mib:,} are free: "
            "`docker system prune` removes what nobody uses"
        )
    else:
        yield _ok(f"disk: images take about {disk_mib:,} MiB, {facts.free_disk_mib:,} are free")


def _of_limits(facts: Facts) -> Iterator[PreflightLine]:
    for name, found, (least, advised) in (
        ("fs.inotify.max_user_watches", facts.watches, _WATCHES),
        ("fs.inotify.max_user_instances", facts.instances, _INSTANCES),
    ):
        if found is None:
            continue
        text = f"{name} is {found:,}"
        what = f"kind advises {advised:,}: `sudo sysctl {name}={advised}`"
        if found >= advised:
            yield _ok(text)
        else:
            yield (_hint if found >= least else _missing)(f"{text}, {what}")
    text = f"open files: {facts.open_files:,} in this shell"
    if facts.open_files < _OPEN_FILES:
        yield _hint(f"{text}: `ulimit -n 4096` before `make run`")
    else:
        yield _ok(text)


def _of_network(facts: Facts, wanted: PreflightTarget) -> Iterator[PreflightLine]:
    if facts.is_loopback_open:
        yield _ok("127.0.0.1 is reached")
    else:
        yield _missing("127.0.0.1 is not reached: a VPN or a firewall catches it, turn it off")
    if facts.is_loopback_open and facts.answer_by_proxy:
        yield _missing(
            f"a proxy catches 127.0.0.1 ({facts.answer_by_proxy}): "
            f"`export no_proxy=localhost,127.0.0.1,{_HOST}`, and the same in your browser"
        )
    for route in facts.clashing_routes:
        yield _hint(
            f"the route {route} takes the addresses of Docker's networks: disconnect the VPN, or "
            "give Docker others (default-address-pools in its daemon.json)"
        )
    is_up = wanted.cluster in facts.clusters
    for port in sorted(needs.PORTS):
        if port not in facts.busy_ports:
            yield _ok(f"port {port} is free")
        elif is_up:
            yield _ok(f"port {port} is taken, by the cluster {wanted.cluster} it seems")
        else:
            yield _missing(
                f"port {port} is taken: end what listens there (`make run`? another cluster? "
                f"`ss -ltnp` or `lsof -i :{port}` says what)"
            )
    for port, name in _OBSERVERS_PORTS.items():
        is_used = wanted.is_observed and (name != "Kiali" or wanted.mesh == "istio")
        if is_used and port in facts.busy_ports:
            yield _hint(f"port {port} is taken: forward another one to {name} ({port + 10}:{port})")
    if wanted.mesh != "none" and "127.0.0.1" not in facts.host_addresses:
        windows = "; for a browser in Windows also in C:\\Windows\\System32\\drivers\\etc\\hosts"
        yield _hint(
            f"{_HOST} does not lead to this machine: "
            f"`echo '127.0.0.1 {_HOST}' | sudo tee -a /etc/hosts`"
            + (windows if "microsoft" in facts.kernel.lower() else "")
        )


# The facts


def gather() -> Facts:
    """Looks at this machine."""
    docker, docker_said = _docker()
    folder = Path(docker.folder) if docker is not None else Path()
    ports = {*needs.PORTS, *_OBSERVERS_PORTS}
    with _OwnServer() as server:
        is_loopback_open = server.answers_directly()
        answer_by_proxy = server.answer_as_curl_gets_it() if is_loopback_open else ""
    return Facts(
        system=platform.system(),
        kernel=platform.release(),
        folder=str(Path.cwd()),
        python=(sys.version_info.major, sys.version_info.minor),
        lacks=[name for name in ("venv", "ensurepip") if find_spec(name) is None],
        cores=os.cpu_count() or 1,
        memory_mib=_memory_mib(),
        free_disk_mib=shutil.disk_usage(folder if folder.exists() else Path()).free // _MIB,
        cgroup=_cgroup(),
        busy_ports=frozenset(port for port in ports if is_busy(port)),
        clusters=(_said("kind", "get", "clusters") or "").split(),
        watches=_number_in("/proc/sys/fs/inotify/max_user_watches"),
        instances=_number_in("/proc/sys/fs/inotify/max_user_instances"),
        open_files=os.sysconf("SC_OPEN_MAX"),
        versions={tool: _said(*VERSION_COMMANDS[tool]) for tool in VERSION_COMMANDS},
        docker=docker,
        docker_said=docker_said,
        is_loopback_open=is_loopback_open,
        answer_by_proxy=answer_by_proxy,
        host_addresses=_addresses(_HOST),
        clashing_routes=_clashing_routes(),
    )


def clashing(routes: str) -> list[str]:
    """Of the kernel's table of routes (/proc/net/route): those that take addresses of Docker's
    networks and are not Docker's. Of two routes the narrower one counts, so wide ones, such as the
    default route, take none.
    """
    found: list[str] = []
    for line in routes.splitlines()[1:]:
        interface, target, _, _, _, _, _, mask, *_ = line.split()
        network = ipaddress.ip_network(f"{_address(target)}/{_address(mask)}")
        if re.match(r"docker|br-|veth", interface) or network.prefixlen < _CONTAINERS[0].prefixlen:
            continue
        if any(network.overlaps(each) for each in _CONTAINERS):
            found.append(f"{network} of {interface}")
    return found


def _address(number: str) -> ipaddress.IPv4Address:
    """An address as that table has it: in hexadecimal, the last byte first."""
    return ipaddress.IPv4Address(struct.pack("<I", int(number, 16)))


class _OwnServer:
    """A server on this machine, to see whether what is asked of it arrives."""

    _ANSWER = b"meshmart preflight"

    def __init__(self) -> None:
        answer = self._ANSWER

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Says nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> _OwnServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answers_directly(self) -> bool:
        return not self._answer(urllib.request.ProxyHandler({}))

    def answer_as_curl_gets_it(self) -> str:
        """Through the proxies that the environment names, but for no_proxy. Empty when the server
        has answered itself.
        """
        return self._answer(urllib.request.ProxyHandler())

    def _answer(self, proxies: urllib.request.ProxyHandler) -> str:
        try:
            with urllib.request.build_opener(proxies).open(self._url, timeout=_PROBE_SECONDS) as it:
                return "" if it.read() == self._ANSWER else "another server answers"
        except OSError as error:
            return str(error)


def _docker() -> tuple[Docker | None, str]:
    """What it says, or why it says nothing."""
    fields = "{{.Architecture}}|{{.NCPU}}|{{.MemTotal}}|{{.CgroupVersion}}|{{.DockerRootDir}}"
    done = _run("docker", "info", "--format", fields)
    if done is None:
        return None, "it is not there"
    parts = done.stdout.strip().split("|")
    if done.returncode != 0 or len(parts) != 5 or not parts[0]:
        return None, done.stderr.strip() or done.stdout.strip()
    kernels, cores, memory_bytes, cgroup, folder = parts
    architecture = _ARCHITECTURES.get(kernels, kernels)
    return Docker(architecture, int(cores), int(memory_bytes) // _MIB, cgroup, folder), ""


def _said(*command: str) -> str | None:
    """What a program prints; None when it is not there, or fails."""
    done = _run(*command)
    return None if done is None or done.returncode != 0 else done.stdout.strip()


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        late = f"no answer in {_COMMAND_SECONDS:g} s"
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=late)


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB


def _cgroup() -> str:
    folder = Path("/sys/fs/cgroup")
    if not folder.exists():
        return ""
    return "2" if (folder / "cgroup.controllers").exists() else "1"


def _number_in(path: str) -> int | None:
    file = Path(path)
    return int(file.read_text(encoding="utf-8")) if file.exists() else None


def is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed one may linger
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _addresses(host: str) -> list[str]:
    try:
        return sorted({str(each[4][0]) for each in socket.getaddrinfo(host, None)})
    except OSError:
        return []


def _clashing_routes() -> list[str]:
    table = Path("/proc/net/route")
    return clashing(table.read_text(encoding="utf-8")) if table.exists() else []


def _numbers(version: str) -> tuple[int, int]:
    """The first two: of ``v1.34.8`` 1 and 34."""
    found = re.search(r"v(\d+)\.(\d+)", version)
    assert found is not None, version
    return int(found[1]), int(found[2])


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _ok(text: str) -> PreflightLine:
    return PreflightLine("ok", text)


def _hint(text: str) -> PreflightLine:
    return PreflightLine("hint", text)


def _missing(text: str) -> PreflightLine:
    return PreflightLine("missing", text)


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.preflight", description=__doc__)
    parser.add_argument("--mesh", choices=tuple(MESH_TOOLS), default="none")
    parser.add_argument("--observability", action="store_true", help="with Grafana and the rest")
    parser.add_argument("--name", default="meshmart", help="of the cluster")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="without a network, from this")
    given = parser.parse_args()
    try:
        bundle = None if given.bundle is None else Bundle.read(given.bundle)
    except BundleError as error:
        print(_missing(str(error)))
        return 1
    found = findings(gather(), PreflightTarget(given.mesh, given.observability, given.name, bundle))
    print(*found, sep="\n")
    levels = [each.level for each in found]
    print(f"{levels.count('missing')} missing, {levels.count('hint')} hints")
    return 1 if "missing" in levels else 0


if __name__ == "__main__":
    sys.exit(main())
