"""What labs add to a student's shop fits into the room that the class keeps for it, and
docs/classroom.md says how much that is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from classroom.chart_values import PROXY_REQUESTS
from classroom.cluster import texts_of
from classroom.resources import (
    Resources,
    fitting,
    lab_requests,
    quantity,
    requested,
    shop_requests,
    student_requests,
)
from classroom.students import Student
from labs.lab import Lab, all_labs
from labs.meshed import MeshedShop
from services.common.topology import load_topology
from tests.unit.labs.fake import FakeCluster
from tools.mesh import render
from tools.mesh.render import MeshName, Object

DOCS = Path(__file__).parents[3] / "docs"
MESHES: Sequence[MeshName] = ("istio", "linkerd")
LABS: Sequence[tuple[Lab, MeshName]] = [
    (lab, mesh)
    for lab in all_labs()
    for mesh in MESHES
    if mesh in lab.places and not lab.changes_the_gateway
]
_OF_SHOP = {f"{name}-service" for name in load_topology().services} | {"frontend", "mongodb"}


def named(value: object) -> str:
    return value.name if isinstance(value, Lab) else str(value)


class Added(NamedTuple):
    """What a lab's start adds to the shop.

    :ivar pods: the pods of its manifests, one for each Deployment.
    :ivar more: further pods of the shop's own services.
    """

    pods: list[Object]
    more: int


class StartedShop(MeshedShop):
    """Keeps what a start asks for."""

    def __init__(self, where: render.Shop) -> None:
        super().__init__(FakeCluster(), where)
        self.values: list[Mapping[str, Any]] = []
        self.applied: list[Object] = []

    async def restore(self, values: Mapping[str, Any] | None = None) -> None:
        self.values.append(values or {})

    async def apply(self, folder: Path) -> None:
        self.applied += render.placed(self.where, folder)

    async def kubectl(self, *arguments: str, given: str | None = None, namespace: str = "") -> str:
        return "{}" if "json" in arguments else ""

    async def pods(self, workload: str) -> list[Any]:
        return [{"metadata": {"name": workload}}]

    async def objects(self, kinds: str, selector: str = "") -> list[Any]:
        return []

    async def put_back(self, each: Object) -> None:
        assert each["kind"] not in {"Pod", "Deployment"}


async def added(lab: Lab, mesh: MeshName) -> Added:
    assert lab.meshed is not None
    shop = StartedShop(Student("student-07", mesh).shop)
    await lab.meshed.start(shop)
    pods = [
        each if each["kind"] == "Pod" else each["spec"]["template"]
        for each in shop.applied
        if each["kind"] == "Pod"
        or (each["kind"] == "Deployment" and each["metadata"]["name"] not in _OF_SHOP)
    ]
    services = [each for given in shop.values for each in given.get("services", {}).values()]
    more = sum(
        max(0, each.get("replicas", 1) - 1) + sum(each.get("variants", {}).values())
        for each in services
    )
    return Added(pods, more)


def proxied(pod: Object, mesh: MeshName) -> bool:
    if mesh == "istio":
        return texts_of(pod, "labels").get("sidecar.istio.io/inject") != "false"
    return texts_of(pod, "annotations").get("linkerd.io/inject") != "disabled"


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize(("lab", "mesh"), LABS, ids=named)
async def test_a_lab_fits_into_the_room_for_labs(lab: Lab, mesh: MeshName) -> None:
    own = await added(lab, mesh)
    shop, room = shop_requests(mesh), lab_requests(mesh)
    proxy = PROXY_REQUESTS[mesh]
    proxies = [each for each in own.pods if proxied(each, mesh)]
    needed = (
        requested([{"spec": each["spec"]} for each in own.pods])
        .plus(
            Resources(
                1000 * quantity(proxy["cpu"]) * len(proxies),
                quantity(proxy["memory"]) / 2**20 * len(proxies),
            )
        )
        # And the new pod of a rolling update.
        .plus(shop.times(1 / shop.pods).times(own.more + 1))
    )

    assert all(have >= need for have, need in zip(room, needed, strict=True)), (room, needed)
    if mesh == "istio":  # Istio's own numbers are several times a lab's pod
        for each in proxies:
            annotations = each["metadata"]["annotations"]
            assert annotations["sidecar.istio.io/proxyCPU"] == proxy["cpu"]
            assert annotations["sidecar.istio.io/proxyMemory"] == proxy["memory"]


@pytest.mark.needs_programs("kubectl")
async def test_the_room_is_no_larger_than_labs_need() -> None:
    starts = [await added(lab, mesh) for lab, mesh in LABS]
    counts = [len(each.pods) + each.more for each in starts]

    assert lab_requests("istio").pods == max(counts) + 1, json.dumps(counts)


class ClusterSize(NamedTuple):
    """A row of the page's table."""

    nodes: int
    cpus: int
    gib: int


_ROWS = [
    ClusterSize(1, 4, 8),
    ClusterSize(1, 4, 16),
    ClusterSize(1, 8, 32),
    ClusterSize(2, 4, 16),
    ClusterSize(3, 4, 16),
    ClusterSize(4, 8, 32),
]
# What the page says that Kubernetes and the mesh request on the first node, and Kubernetes on each
# further one.
_FIRST: Mapping[MeshName, Resources] = {
    "istio": Resources(1500, 2.4 * 1024, 12),
    "linkerd": Resources(1500, 0.9 * 1024, 13),
}
_FURTHER = Resources(100, 60, 2)
_FOR_PODS, _PODS_OF_A_NODE = 0.97, 110


def fitting_in(size: ClusterSize, mesh: MeshName) -> int:
    node = Resources(1000 * size.cpus, 1024 * size.gib * _FOR_PODS, _PODS_OF_A_NODE)
    each = student_requests(mesh)
    further = (size.nodes - 1) * fitting(node.minus(_FURTHER), each)
    return fitting(node.minus(_FIRST[mesh]), each) + further


def test_the_page_has_these_numbers() -> None:
    page = " ".join((DOCS / "classroom.md").read_text(encoding="utf-8").split())
    by_row = [
        ("requests (by the chart's values)", shop_requests),
        ("free room that `up` requires for each student", student_requests),
    ]
    for label, of in by_row:
        cells = " | ".join(
            f"{each.cpu_millicores / 1000:.2f}, {each.memory_mib / 1024:.2f} GiB, {each.pods}"
            for each in map(of, MESHES)
        )
        assert re.search(rf"\| {re.escape(label)}[^|]*\| {re.escape(cells)} \|", page), cells
    for size in _ROWS:
        nodes = "1 node" if size.nodes == 1 else f"{size.nodes} nodes"
        each = " each" if size.nodes > 1 else ""
        counts = " | ".join(str(fitting_in(size, mesh)) for mesh in MESHES)
        row = f"| {nodes}, {size.cpus} CPU, {size.gib} GiB{each} | {counts} |"
        assert row in page, row
