"""A class of three on the cluster: each has a shop, none reaches another, and nothing is left.

The isolation matrix is each against each: by the API server, by traffic, and at the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from classroom.board import rows
from classroom.cluster import Cluster
from classroom.guards import refused_pod
from classroom.kubeconfig import file_of
from classroom.page import Board, served
from classroom.students import Student, students_of
from labs.commands import Programs
from labs.lab import Lab, all_labs
from labs.meshed import MeshedShop, Probed
from labs.runner import NOT_PASSED
from services.common.clock import now_ms
from tests.cluster.release import IMAGE
from tests.labs.mistakes import case_of
from tests.mesh.meshed import NODE, SETTLE_SECONDS, Mesh, gateway_port
from tests.mesh.shops import chosen
from tests.mesh.test_matrix import request as request_for
from tests.mesh.test_two_shops import asked_for
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.cluster import ROOT, CommandFailed, run
from tests.testkit.matrix import TOPOLOGY
from tests.testkit.usability import problems_of
from tests.testkit.waiting import wait_until

_UP_SECONDS, _LAB_SECONDS, _DOWN_SECONDS = 1700.0, 600.0, 900.0
_RESET_SECONDS = 90.0
_POLICIES_SECONDS = 60.0
_CALLERS = ("frontend", "order", "payment")
_FIRST_LABS = {"03", "06", "10"}  # the others are for LONG=1
# Made by nobody for the class, or anew all the time.
_VOLATILE = re.compile(
    r"events?(\.events\.k8s\.io)?|leases\..*|componentstatuses|.*\.metrics\..*"
    r"|certificatesigningrequests\..*|volumeattachments\..*"
)


@dataclass(frozen=True, slots=True)
class StudentDesk:
    """A student, with their kubeconfig file and nothing else."""

    student: Student
    kubeconfig: Path
    home: Path

    @property
    def name(self) -> str:
        return self.student.name

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What ``kubectl`` prints to them."""
        return run("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments, given=given)

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        """What ``kubectl auth can-i`` says: to it the second part of ``pods/exec`` is a name."""
        whole, _, part = resource.partition("/")
        asked = ("auth", "can-i", verb, whole, *((f"--subresource={part}",) if part else ()))
        refusal = self.refusal_of(*asked, "-n", namespace)
        assert not refusal or re.search(r"\sno( - .*)?$", refusal), refusal
        return not refusal

    def refusal_of(self, *arguments: str, given: str | None = None) -> str:
        """Why a command is refused; empty when it is not."""
        try:
            self.kubectl(*arguments, given=given)
        except CommandFailed as error:
            return str(error)
        return ""

    def labs(self, *arguments: str) -> tuple[int, str]:
        """The status of ``python -m labs``, and what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "labs", *arguments],
            env={
                **os.environ,
                "KUBECONFIG": str(self.kubeconfig),
                "XDG_STATE_HOME": str(self.home),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LAB_SECONDS,
            cwd=ROOT,
            check=False,
        )
        print(f"{self.name}$ labs {' '.join(arguments)}\n{done.stdout}")
        return done.returncode, done.stdout

    def shop(self, gateway_address: str) -> MeshedShop:
        """Their shop, for the tests, which may do everything."""
        return MeshedShop(Programs(), self.student.shop, gateway_address=gateway_address)


@dataclass(frozen=True, slots=True)
class Room:
    """The class.

    :ivar before: what there was in the cluster before it.
    """

    desks: Sequence[StudentDesk]
    gateway_address: str
    folder: Path
    before: frozenset[str]

    def classroom(self, *arguments: str, within_seconds: float = _LAB_SECONDS) -> str:
        """What ``python -m classroom`` prints to the teacher."""
        said = run(*(sys.executable, "-m", "classroom", *arguments), within_seconds=within_seconds)
        print(said)
        return said


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> type[Mesh]:
    """Which mesh: without it in the cluster these tests are left out."""
    kind = chosen(request.config)
    if kind.name == "none":
        pytest.skip("a class is in a mesh")
    return kind


@pytest.fixture(scope="module")
def room(kind: type[Mesh], tmp_path_factory: pytest.TempPathFactory) -> Generator[Room]:
    """A class of three, each with a shop that is open."""
    assert kind.name != "none"
    folder = tmp_path_factory.mktemp("class")
    run(sys.executable, "-m", "classroom", "down", within_seconds=_DOWN_SECONDS)
    before = there()
    address = f"{NODE}:{gateway_port('https', kind.way_in)}"
    desks = [
        StudentDesk(each, file_of(folder, each), folder / each.name)
        for each in students_of(3, kind.name)
    ]
    room = Room(desks, address, folder, before)
    try:
        room.classroom(
            *("up", "--students", "3", "--mesh", kind.name, "--image", IMAGE),
            *("--folder", str(folder), "--gateway-address", address),
            within_seconds=_UP_SECONDS,
        )
        yield room
    finally:
        room.classroom("down", "--folder", str(folder), within_seconds=_DOWN_SECONDS)


def there() -> frozenset[str]:
    """The names of all objects of the cluster itself and of the gateways' namespaces."""
    found: set[str] = set()
    for is_namespaced in (False, True):
        listed = ("api-resources", f"--namespaced={str(is_namespaced).lower()}", "--verbs=list")
        names = run("kubectl", *listed, "-o", "name").split()
        kinds = ",".join(name for name in names if not _VOLATILE.fullmatch(name))
        namespaces = ("istio-system", "shop-ingress") if is_namespaced else ("default",)
        for namespace in namespaces:
            said = run("kubectl", "-n", namespace, "get", kinds, "-o", "name")
            found |= {f"{namespace}: {line}" for line in said.split()}
    return frozenset(found)


def pairs(room: Room) -> Sequence[tuple[StudentDesk, StudentDesk]]:
    """Each against each."""
    return list(itertools.permutations(room.desks, 2))


def test_nobody_may_do_anything_in_anothers_namespace(room: Room) -> None:
    seen: Counter[str] = Counter()
    for one, other in pairs(room):
        for verb, resource in (
            *(("get", "pods"), ("list", "secrets"), ("create", "pods"), ("create", "pods/exec")),
            *(("delete", "deployments.apps"), ("patch", "services"), ("get", "pods/log")),
            *(("list", "configmaps"), ("update", "networkpolicies.networking.k8s.io")),
            *(("create", "virtualservices.networking.istio.io"), ("get", "namespaces")),
        ):
            assert not one.may(verb, resource, other.name), (one.name, verb, resource, other.name)
            seen["no"] += 1
        for command in (
            ("get", "pods"),
            ("get", "secret", "mongodb"),
            ("delete", "pod", "--all"),
            ("exec", "deployment/order-service", "-c", "order", "--", "true"),
            ("create", "configmap", "here"),
            ("get", "configmap", "meshmart-lab"),
        ):
            refusal = one.refusal_of("-n", other.name, *command)
            assert "forbidden" in refusal.lower(), (one.name, command, other.name, refusal)
            seen["forbidden"] += 1
    print(f"API server, each against each: {dict(seen)}")


def test_nobody_may_do_anything_to_the_cluster(room: Room, kind: type[Mesh]) -> None:
    for desk in room.desks:
        for command in (
            ("get", "nodes"),
            ("get", "namespaces"),
            ("get", "pods", "--all-namespaces"),
            ("-n", kind.way_in.namespace, "get", "secrets"),
            ("-n", kind.way_in.namespace, "get", "pods"),
            ("label", "namespace", desk.name, "pod-security.kubernetes.io/enforce-"),
            ("create", "token", "student"),
            ("create", "role", "all", "--verb=*", "--resource=*"),
            ("create", "clusterrolebinding", "all", "--clusterrole=cluster-admin", "--user=me"),
            ("delete", "resourcequota", "class"),
            ("delete", "limitrange", "class"),
            ("patch", "role", "student", "-p", "{}"),
        ):
            refusal = desk.refusal_of(*command)
            assert "forbidden" in refusal.lower(), (desk.name, command, refusal)


def test_everybody_may_do_what_labs_need_in_their_own(room: Room) -> None:
    for desk in room.desks:
        assert len(desk.kubectl("get", "pods", "-o", "name").split()) >= 11
        assert desk.may("create", "pods/exec", desk.name)
        assert desk.may("patch", "deployments.apps", desk.name)
        desk.kubectl("create", "configmap", "mine", "--dry-run=server")


def manifest(api: str, kind: str, **more: Any) -> str:
    """An object, as JSON."""
    return json.dumps({"apiVersion": api, "kind": kind, "metadata": {"name": "mine"}, **more})


def pod(**spec: Any) -> str:
    """A pod, as JSON."""
    return manifest("v1", "Pod", spec={"containers": [{"name": "c", "image": IMAGE}], **spec})


def service(**spec: Any) -> str:
    """A Service, as JSON."""
    return manifest("v1", "Service", spec={"ports": [{"port": 80}], **spec})


def container(**more: Any) -> str:
    """A pod whose container has something, as JSON."""
    return pod(containers=[{"name": "c", "image": IMAGE, **more}])


_GATEWAY = "gateway.networking.k8s.io/v1"
_ISTIO = "networking.istio.io/v1"
_LISTENER = {"name": "http", "port": 8000, "protocol": "HTTP"}
# What a student might reach others with, and who refuses it.
_ESCALATIONS: Sequence[tuple[str, str]] = (
    (json.dumps(refused_pod()), "meshmart-class-pods"),
    (pod(hostNetwork=True), "meshmart-class-pods"),
    (pod(hostPID=True), "meshmart-class-pods"),
    (pod(priorityClassName="system-node-critical"), "meshmart-class-pods|forbidden"),
    (container(securityContext={"privileged": True}), "meshmart-class-pods"),
    (
        container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        "meshmart-class-pods",
    ),
    (container(ports=[{"containerPort": 80, "hostPort": 80}]), "meshmart-class-pods"),
    (service(type="NodePort"), "meshmart-class-services|exceeded quota"),
    (service(type="LoadBalancer"), "meshmart-class-services|exceeded quota"),
    (service(externalIPs=["10.0.0.1"]), "meshmart-class-services"),
    (manifest("v1", "Endpoints", subsets=[]), "forbidden"),
    (
        manifest(_GATEWAY, "Gateway", spec={"gatewayClassName": "x", "listeners": [_LISTENER]}),
        "forbidden",
    ),
    (
        manifest(
            _GATEWAY,
            "HTTPRoute",
            spec={
                "parentRefs": [
                    {
                        "group": "",
                        "kind": "Service",
                        "name": "payment-service",
                        "namespace": "student-02",
                        "port": 9000,
                    }
                ]
            },
        ),
        "meshmart-class-routes",
    ),
    (manifest("rbac.authorization.k8s.io/v1", "Role", rules=[]), "forbidden"),
)
_ISTIOS_ESCALATIONS: Sequence[tuple[str, str]] = (
    (manifest(_ISTIO, "Gateway", spec={"servers": []}), "forbidden"),
    (manifest(_ISTIO, "WorkloadEntry", spec={"address": "10.0.0.1"}), "forbidden"),
    (
        manifest(
            _ISTIO,
            "VirtualService",
            spec={
                "hosts": ["payment-service.student-02.svc.cluster.local"],
                "http": [{"directResponse": {"status": 418}}],
            },
        ),
        "meshmart-class-istio",
    ),
    (
        manifest(
            _ISTIO,
            "DestinationRule",
            spec={"host": "product-service", "exportTo": ["*"]},
        ),
        "meshmart-class-istio",
    ),
    (
        manifest(
            _ISTIO,
            "ServiceEntry",
            spec={
                "hosts": ["api.stripe.com"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "DNS",
            },
        ),
        "meshmart-class-istio",
    ),
    (
        manifest(
            "security.istio.io/v1",
            "RequestAuthentication",
            spec={"jwtRules": [{"issuer": "me", "jwksUri": "http://169.254.169.254/"}]},
        ),
        "meshmart-class-istio",
    ),
)
_HARMLESS: Sequence[str] = (
    pod(),
    container(securityContext={"capabilities": {"add": ["NET_RAW"]}}),
    service(),
)
_ISTIOS_HARMLESS: Sequence[str] = (
    manifest(
        _ISTIO,
        "VirtualService",
        spec={
            "hosts": ["product-service"],
            "http": [{"route": [{"destination": {"host": "product-service"}}]}],
        },
    ),
    manifest(_ISTIO, "DestinationRule", spec={"host": "product-service"}),
)


def test_rights_do_not_grow(room: Room, kind: type[Mesh]) -> None:
    dry_run = ("create", "--dry-run=server", "-f", "-")
    is_istio = kind.name == "istio"
    desk = room.desks[0]
    for given, refused_by in (*_ESCALATIONS, *(_ISTIOS_ESCALATIONS if is_istio else ())):
        refusal = desk.refusal_of(*dry_run, given=given)
        assert re.search(refused_by, refusal), (given, refusal)
    for given in (*_HARMLESS, *(_ISTIOS_HARMLESS if is_istio else ())):
        assert desk.refusal_of(*dry_run, given=given) == "", given
    for command in (
        ("delete", "networkpolicy", "class"),
        ("label", "networkpolicy", "class", "meshmart/class-"),
    ):
        assert "this NetworkPolicy is the class's" in desk.refusal_of(*command), command
    # The base of every student has passed the same policies.
    assert desk.kubectl("get", "networkpolicy", "class", "-o", "name")


def to(other: StudentDesk, caller: str) -> list[Mapping[str, Any]]:
    """What a service may ask of its own shop, asked of another's; and MongoDB and Stripe there."""
    wanted = json.dumps([request_for(each, None) for each in asked_for(caller)])
    requests = wanted.replace(f".{TOPOLOGY.namespace}", f".{other.name}")
    return [
        *json.loads(requests),
        {"database": f"mongodb.{other.name}:27017"},
        {"method": "GET", "url": f"http://stripe-sandbox.{other.name}:12111/livez"},
    ]


async def asked_by_service(
    room: Room, one: StudentDesk, caller: str, other: StudentDesk
) -> list[Probed]:
    workload = TOPOLOGY.services[caller].workload
    shop = one.shop(room.gateway_address)
    return await shop.probe(f"deployment/{workload}", caller, to(other, caller))


async def test_no_service_is_answered_by_anothers(room: Room) -> None:
    seen: Counter[str] = Counter()
    for caller in _CALLERS:
        for one in room.desks:
            own = await asked_by_service(room, one, caller, one)
            assert any(each.outcome == "answered" for each in own), (one.name, caller, own)
        for one, other in pairs(room):
            for answer in await asked_by_service(room, one, caller, other):
                assert answer.outcome != "answered", (one.name, caller, other.name, answer)
                seen[answer.outcome] += 1
    print(f"traffic of services, each against each: {dict(seen)}")


_OUTSIDER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "outsider",
        "labels": {"sidecar.istio.io/inject": "false"},
        "annotations": {"linkerd.io/inject": "disabled"},
    },
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "outsider", "image": IMAGE, "command": ["sleep", "infinity"]}],
    },
}


@asynccontextmanager
async def outsiders(room: Room) -> AsyncGenerator[None]:
    """A pod without a proxy in each namespace, which its student has made."""
    for desk in room.desks:
        desk.kubectl("apply", "-f", "-", given=json.dumps(_OUTSIDER))
    for desk in room.desks:
        desk.kubectl("wait", "pod/outsider", "--for=condition=Ready", "--timeout=120s")
    try:
        yield
    finally:
        for desk in room.desks:
            desk.kubectl("delete", "pod", "outsider")


async def test_no_pod_is_answered_by_another_shop_even_while_a_lab_has_its_rules_off(
    room: Room,
) -> None:
    """The sandbox has no proxy: only the network keeps others away from it."""
    *_, open_desk = room.desks
    seen: Counter[str] = Counter()
    async with outsiders(room):
        for one, other in pairs(room):
            shop = one.shop(room.gateway_address)
            for answer in await shop.probe("outsider", "outsider", to(other, "order")):
                assert answer.outcome != "answered", (one.name, other.name, answer)
                seen[answer.outcome] += 1
        url = f"http://stripe-sandbox.{open_desk.name}:12111/livez"
        sandbox = [{"method": "GET", "url": url}]
        policies = open_desk.kubectl("get", "networkpolicies", "-o", "name").split()
        own = [each for each in policies if not each.endswith("/class")]
        open_desk.kubectl("delete", *own)
        try:
            open_shop = open_desk.shop(room.gateway_address)

            async def is_open() -> bool:
                (answer,) = await open_shop.probe("outsider", "outsider", sandbox)
                return answer.outcome == "answered"

            until = asyncio.get_running_loop().time() + _POLICIES_SECONDS
            while not await is_open():
                assert asyncio.get_running_loop().time() < until, "their own pod reaches it"
                await asyncio.sleep(1)
            for one in room.desks:
                if one is not open_desk:
                    shop = one.shop(room.gateway_address)
                    (answer,) = await shop.probe("outsider", "outsider", sandbox)
                    assert answer.outcome == "failed", (one.name, answer)
                    seen["failed, with the chart's policies away"] += 1
        finally:
            room.classroom(*_to_one("reset", open_desk, room))
    print(f"traffic of pods without a proxy, each against each: {dict(seen)}")


def _to_one(command: str, desk: StudentDesk, room: Room) -> tuple[str, ...]:
    return (command, desk.name, "--gateway-address", room.gateway_address)


def taking(kind: str, one: StudentDesk, other: StudentDesk) -> str:
    """A route of one for the host of the other, at both of their gateways."""
    host = other.student.shop.host
    at = list(dict.fromkeys((other.name, one.name)))
    if kind == "istio":
        spec = {
            "hosts": [host],
            "exportTo": [".", "istio-system"],
            "gateways": [f"{each}/{each}-gateway" for each in at],
            "http": [{"match": [{"uri": {"exact": "/taken"}}], "directResponse": {"status": 418}}],
        }
        return manifest(_ISTIO, "VirtualService", spec=spec)
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "taken.example"}}
    spec = {
        "hostnames": [host],
        "parentRefs": [
            {"name": f"{each}-gateway", "namespace": "shop-ingress", "sectionName": "https"}
            for each in at
        ],
        "rules": [
            {"matches": [{"path": {"type": "Exact", "value": "/taken"}}], "filters": [redirect]}
        ],
    }
    return manifest(_GATEWAY, "HTTPRoute", spec=spec)


_TAKEN = {"istio": 418, "linkerd": 302}
_ROUTES = {
    "istio": "virtualservices.networking.istio.io",
    "linkerd": "httproutes.gateway.networking.k8s.io",  # Linkerd has some of that name, too
}


async def status_of_taken(room: Room, desk: StudentDesk) -> int:
    """What people get at a shop's host where nothing is, unless a route leads there."""
    async with desk.shop(room.gateway_address).visitor() as visitor:
        return (await visitor.send("GET", "/taken")).status


async def test_nobody_takes_anothers_host_at_the_gateway(room: Room, kind: type[Mesh]) -> None:
    taken = _TAKEN[kind.name]
    first, second, third = room.desks
    for desk in room.desks:
        assert await status_of_taken(room, desk) not in {0, taken}
    first.kubectl("apply", "-f", "-", given=taking(kind.name, first, second))
    third.kubectl("apply", "-f", "-", given=taking(kind.name, third, third))
    try:
        until = asyncio.get_running_loop().time() + SETTLE_SECONDS
        # That a route of one's own is taken shows that the other's would have been by now.
        while await status_of_taken(room, third) != taken:
            assert asyncio.get_running_loop().time() < until, "one's own route is taken"
            await asyncio.sleep(1)
        for _ in range(10):
            for desk in (first, second):
                assert await status_of_taken(room, desk) not in {0, taken}, desk.name
            await asyncio.sleep(1)
        async with second.shop(room.gateway_address).visitor() as visitor:
            assert (await visitor.buy()).status in {201, 202}
    finally:
        for desk in (first, third):
            desk.kubectl("delete", _ROUTES[kind.name], "mine")


def some_labs(config: pytest.Config) -> Sequence[Any]:
    """Those that a class can do in the mesh of this run; all but a few are long."""
    place = chosen(config).name
    here = [each for each in all_labs() if place in each.places and not each.changes_the_gateway]
    return [
        pytest.param(lab, id=lab.name, marks=() if lab.number in _FIRST_LABS else pytest.mark.long)
        for lab in here
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lab" in metafunc.fixturenames:
        metafunc.parametrize("lab", some_labs(metafunc.config))


def test_a_lab_is_done_with_a_students_rights(lab: Lab, room: Room, kind: type[Mesh]) -> None:
    assert kind.name != "none"
    desk = room.desks[0]
    status, text = desk.labs("readme", lab.number)
    assert status == 0, text
    assert desk.name in text
    assert TOPOLOGY.namespace not in text

    assert desk.labs("start", lab.number)[0] == 0
    status, said = desk.labs("check")
    assert status == NOT_PASSED, said
    assert re.search(case_of(lab.name, kind.name).first, said), said
    assert "was not told" not in said
    table = room.classroom("board", "--table")
    line = next(each for each in table.splitlines() if each.startswith(desk.name))
    assert re.search(rf"{lab.number} .* \d+ wrong, 0 min ago", line), table

    assert desk.labs("solve")[0] == 0
    status, said = desk.labs("check")
    assert status == 0, said
    assert desk.labs("reset")[0] == 0


async def test_one_is_reset_and_solved_while_the_others_sell(room: Room) -> None:
    first, *others = room.desks
    assert first.labs("start", "06")[0] == 0
    is_over = asyncio.Event()
    bought: Counter[str] = Counter()
    failed: list[str] = []

    async def buys(desk: StudentDesk) -> None:
        async with desk.shop(room.gateway_address).visitor() as visitor:
            while not is_over.is_set():
                answer = await visitor.buy()
                if answer.status in {201, 202}:
                    bought[desk.name] += 1
                    await visitor.cancel(answer.body["order_id"])
                else:
                    failed.append(f"{desk.name}: {answer}")

    buying = [asyncio.create_task(buys(desk)) for desk in others]
    try:
        await asyncio.to_thread(room.classroom, *_to_one("solve", first, room))
        status, said = await asyncio.to_thread(first.labs, "check")
        assert status == 0, said
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.to_thread(room.classroom, *_to_one("reset", first, room))
        seconds = loop.time() - began
    finally:
        is_over.set()
        await asyncio.gather(*buying)
    print(f"{first.name} was reset after {seconds:.0f} s; meanwhile bought: {dict(bought)}")
    assert not failed
    assert all(bought[desk.name] >= 3 for desk in others)
    assert seconds <= _RESET_SECONDS
    async with first.shop(room.gateway_address).visitor() as visitor:
        assert (await visitor.buy()).status in {201, 202}


async def test_the_board_shows_who_is_where(room: Room, tmp_path: Path) -> None:
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    first, second, _ = room.desks
    assert first.labs("start", "06")[0] == 0
    assert first.labs("check")[0] == NOT_PASSED
    assert second.labs("start", "10")[0] == 0
    cluster, labs = Cluster(Programs()), all_labs()
    board = Board(lambda: rows(cluster, labs, now_ms()))
    await board.look_once()
    folder = Path(os.environ.get("MESHMART_SCREENSHOTS") or tmp_path)
    async with served(board, 0) as address, open_browser(executable) as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 640})
        await page.goto(address)
        await page.screenshot(path=folder / "class-board.png", full_page=True)
        print(f"picture: {folder / 'class-board.png'}")
        text = await page.inner_text("main")
        for words in (first.name, "06 A canary", "wrong, 0 min ago", "10 A sick pod"):
            assert words in text, text
        assert await problems_of(page) == []
    for desk in (first, second):
        assert desk.labs("reset")[0] == 0


def test_what_a_student_costs_is_told(room: Room) -> None:
    said = room.classroom("cost")
    line = re.compile(
        r"student-0\d: ready after \d+ s; requests [\d.]+ CPU, [\d.]+ GiB, 1[1-9] pods; "
        r"uses [\d.]+ CPU, [\d.]+ GiB"
    )
    assert len(line.findall(said)) == 3, said
    assert "There is room for " in said


def test_when_it_is_over_nothing_is_left(room: Room) -> None:
    """Stays the last one of this file."""
    desk = room.desks[0]
    kept = room.folder / "kept"
    kept.write_text(desk.kubeconfig.read_text(encoding="utf-8"), encoding="utf-8")
    room.classroom("down", "--folder", str(room.folder), within_seconds=_DOWN_SECONDS)

    def is_as_before() -> bool:
        changed = there() ^ room.before
        print(sorted(changed))
        return not changed

    # Volumes are deleted by their provisioner, a moment later.
    wait_until(is_as_before, "the cluster is as it was before the class", 180)
    assert not list(room.folder.glob("*.kubeconfig"))
    keeps_it = StudentDesk(desk.student, kept, desk.home)
    wait_until(
        lambda: re.search("Unauthorized|logged in", keeps_it.refusal_of("get", "pods")) is not None,
        "a kubeconfig of the class is good for nothing",
        _POLICIES_SECONDS,
    )
