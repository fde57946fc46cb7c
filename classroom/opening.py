"""Makes a class."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classroom.cluster import POLICIES, READY, Cluster, texts_of
from classroom.guards import PREFIX, guards, refused_pod
from classroom.kubeconfig import expires, kubeconfig, write
from classroom.manifests import ACCOUNT, manifests
from classroom.shares import allocatable, class_values, fitting, requested, with_room
from classroom.students import Student, students_of
from labs.errors import CommandFailed, LabError
from labs.meshed import MeshedShop
from labs.restoring import CHART, RELEASE, merged
from labs.seat import CLASS_LABEL
from labs.waiting import eventually
from tools.certificate import secret, self_signed
from tools.kind import LINKERDS_ROUTES
from tools.mesh import render
from tools.mesh.render import MeshName, Object

Say = Callable[[str], None]

# What has to be there of each mesh: in which namespace, and what.
_PARTS: Mapping[MeshName, Sequence[tuple[str, str]]] = {
    "istio": (
        ("istio-system", "deployment/istiod"),
        ("istio-system", "service/istio-ingressgateway"),
    ),
    "linkerd": (
        ("linkerd", "deployment/linkerd-destination"),
        ("shop-ingress", "service/traefik"),
    ),
}
_INSTALL_SECONDS = 900.0
_GUARD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a class is to be.

    :ivar image: the shop's, as the cluster's nodes find it.
    :ivar values: more values for the chart.
    :ivar folder: where the kubeconfig files go.
    :ivar hours: for how long their tokens are good.
    :ivar server: the API server's address for students; empty for the teacher's.
    :ivar gateway_address: where students reach the gateway; empty to look for it.
    :ivar is_autoscaled: the cluster adds nodes when pods find no room.
    :ivar at_once: how many shops are started side by side.
    """

    count: int
    mesh: MeshName
    image: str
    values: dict[str, Any]
    folder: Path
    hours: int
    server: str = ""
    gateway_address: str = ""
    is_autoscaled: bool = False
    at_once: int = 3


@dataclass(frozen=True, slots=True)
class Opening:
    """Makes a class, or takes up one that was begun."""

    cluster: Cluster
    plan: Plan
    say: Say

    async def open(self) -> None:
        """Makes the class; whoever is there keeps their shop, and gets a kubeconfig file again.

        :raises LabError: the cluster cannot hold it, or a shop does not become ready.
        """
        students = students_of(self.plan.count, self.plan.mesh)
        await self._need_a_mesh(self.plan.mesh)
        there = {each["metadata"]["name"]: each for each in await self.cluster.namespaces()}
        await self._need_no_others(students, there)
        missing = [each for each in students if each.name not in there]
        if not self.plan.is_autoscaled:
            await self._need_room(self.plan.mesh, len(missing))
        address = self.plan.gateway_address or await self.cluster.gateway_address(self.plan.mesh)
        await self.cluster.apply(
            [each for guard in guards(self.plan.mesh) for each in guard.manifests()]
        )
        for student in students:
            await self.cluster.apply(manifests(student))
        await self._need_guards(students[0])
        limit = asyncio.Semaphore(self.plan.at_once)

        async def seated(student: Student) -> None:
            async with limit:
                if READY not in texts_of(there.get(student.name, {}), "annotations"):
                    await self._open_shop(student, address)

        await _all(seated(student) for student in students)
        for student in students:
            await self._write_kubeconfig(student, address)
        for line in await self.cluster.cost(students):
            self.say(line)
        self._say_where(students, address)

    async def _need_a_mesh(self, mesh: MeshName) -> None:
        for namespace, name in _PARTS[mesh]:
            get = ("get", name, "--ignore-not-found", "-o", "name")
            if not (await self.cluster.kubectl(namespace, *get)).strip():
                raise LabError(
                    f"{mesh.capitalize()} is not in this cluster ({name} in {namespace} is "
                    f"missing): make up MESH={mesh}, or the first steps of mesh/{mesh}/README.md"
                )
        group = ("--api-group=admissionregistration.k8s.io", "-o", "name")
        if POLICIES not in (await self.cluster.run("api-resources", *group)).split():
            raise LabError(
                "This cluster has no ValidatingAdmissionPolicies, which keep students out of each "
                "other's way: it has to be Kubernetes 1.30 or newer."
            )

    async def _need_no_others(self, students: Sequence[Student], there: dict[str, Object]) -> None:
        names = set((await self.cluster.run("get", "namespaces", "-o", "name")).split())
        for student in students:
            if f"namespace/{student.name}" in names and student.name not in there:
                raise LabError(
                    f"The namespace {student.name} exists, and does not belong to a class: "
                    "delete it first."
                )
            labels = texts_of(there.get(student.name, {}), "labels")
            mesh = labels.get(CLASS_LABEL, student.mesh)
            if mesh != student.mesh:
                raise LabError(f"There is a class in {mesh.capitalize()} already: make class-down")

    async def _need_room(self, mesh: MeshName, count: int) -> None:
        free = allocatable(await self.cluster.nodes()).minus(requested(await self.cluster.pods()))
        each = with_room(mesh)
        if count > (fits := fitting(free, each)):
            raise LabError(
                f"This cluster has room for {fits} more students, and {count} are asked for. One "
                f"takes {each}; free are {free}. Take a larger cluster, fewer students, or "
                "--autoscaled where nodes are added when pods find no room."
            )

    async def _need_guards(self, student: Student) -> None:
        """Waits until a pod is refused that would take the node over."""
        pod = json.dumps(refused_pod())

        async def is_refused() -> bool:
            try:
                await self.cluster.kubectl(
                    student.name, "create", "--dry-run=server", "-f", "-", given=pod
                )
            except CommandFailed as error:
                return PREFIX in str(error)
            return False

        await eventually(is_refused, "the class's policies are in force", _GUARD_SECONDS, 1.0)

    async def _open_shop(self, student: Student, address: str) -> None:
        """Installs the shop and its base, in the order of the mesh's README.md."""
        self.say(f"{student.name}: starting the shop ...")
        began = time.monotonic()
        await self._install_certificate(student)
        if student.mesh == "istio":
            await self.cluster.apply(_labelled(render.rendered(student.shop, "base"), "entry"))
            await self._upgrade(student, {})
        else:
            await self._upgrade(student, {})
            audit = render.rendered(student.shop, "audit")
            for part in (_labelled(audit, "servers"), audit):
                await self.cluster.apply(part)
                await self.cluster.kubectl(
                    student.name, "wait", *LINKERDS_ROUTES, within_seconds=_INSTALL_SECONDS
                )
        await self.cluster.apply(render.rendered(student.shop, "base"))
        if student.mesh == "linkerd":
            await self._upgrade(student, {"linkerd": {"defaultInboundPolicy": "deny"}})
        await MeshedShop(self.cluster.commands, student.shop, gateway_address=address).until_open()
        seconds = time.monotonic() - began
        await self.cluster.run("annotate", "namespace", student.name, f"{READY}={seconds:.0f}")
        self.say(f"{student.name}: open after {seconds:.0f} s")

    async def _upgrade(self, student: Student, more: dict[str, Any]) -> None:
        repository, _, tag = self.plan.image.rpartition(":")
        values = merged(
            {**class_values(student.mesh), "image": {"repository": repository, "tag": tag}},
            merged(self.plan.values, more),
        )
        # Helm's record of an upgrade that was interrupted would forbid the next.
        pending = "status in (pending-install,pending-upgrade,pending-rollback)"
        selector = f"owner=helm,name={RELEASE},{pending}"
        await self.cluster.kubectl(student.name, "delete", "secrets", "--selector", selector)
        await self.cluster.commands.run(
            *("helm", "-n", student.name, "upgrade", "--install", RELEASE, str(CHART)),
            *("--values", "-", "--wait", "--timeout", f"{_INSTALL_SECONDS:.0f}s"),
            given=json.dumps(values),
            within_seconds=_INSTALL_SECONDS + 60,
        )

    async def _install_certificate(self, student: Student) -> None:
        """Gives the gateway one for the student's host."""
        namespace = student.shop.gateway.namespace
        made = json.loads(secret(self_signed(student.shop.host), namespace, shop=student.name))
        made["metadata"]["labels"] = {CLASS_LABEL: student.mesh}
        await self.cluster.apply([made])

    async def _write_kubeconfig(self, student: Student, address: str) -> None:
        view = ("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        create = ("create", "token", ACCOUNT, f"--duration={self.plan.hours}h")
        token = (await self.cluster.kubectl(student.name, *create)).strip()
        of_teacher = json.loads(await self.cluster.run(*view))
        content = kubeconfig(
            of_teacher, student, token, server=self.plan.server, gateway_address=address
        )
        file = write(self.plan.folder, student, content)
        self.say(f"{file}: good until {expires(token):%Y-%m-%d %H:%M} UTC")

    def _say_where(self, students: Sequence[Student], address: str) -> None:
        self.say(
            f"Give each student their file of {self.plan.folder}. They type `export "
            "KUBECONFIG=…/student-01.kubeconfig`, then `python -m labs readme 01`. The gateway is "
            f"at {address}. Browsers open the shops once /etc/hosts says:"
        )
        host, _, _ = address.rpartition(":")
        self.say(f"{host} {' '.join(student.shop.host for student in students)}")


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Does everything side by side, and raises the first error once nothing goes on."""
    for each in await asyncio.gather(*works, return_exceptions=True):
        if each is not None:
            raise each


def _labelled(objects: Sequence[Object], step: str) -> list[Object]:
    """Those of a step of the mesh's README.md."""
    return [each for each in objects if texts_of(each, "labels").get("meshmart/step") == step]
