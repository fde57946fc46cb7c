"""Makes a class: namespaces, shops and kubeconfig files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classroom.admission import NAME_PREFIX, admission_policies, refused_pod
from classroom.chart_values import chart_values
from classroom.cluster import POLICY_KIND, READY, Cluster, texts_of
from classroom.kubeconfig import expires, kubeconfig, write
from classroom.manifests import ACCOUNT, manifests
from classroom.resources import allocatable, fitting, requested, student_requests
from classroom.students import Student, students_of
from labs.errors import CommandFailed, LabError
from labs.membership import CLASS_LABEL
from labs.meshed import MeshedShop
from labs.restoring import CHART, PENDING_RELEASES, RELEASE, merged
from labs.waiting import eventually
from tools.certificate import secret, self_signed
from tools.kind import LINKERDS_ROUTES
from tools.mesh import render
from tools.mesh.render import MeshName, Object

Say = Callable[[str], None]

# What a class needs of each mesh: namespaces and objects.
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
_POLICIES_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a class.

    :ivar count: how many students it has.
    :ivar image: the shop's, as the cluster's nodes pull it.
    :ivar values: more values for the chart.
    :ivar folder: for the kubeconfig files.
    :ivar hours: how long their tokens are valid.
    :ivar server: the API server's URL for students; empty for the teacher's.
    :ivar gateway_address: where students reach the gateway, ``192.0.2.7:443``; empty to look it up.
    :ivar is_autoscaled: the cluster adds nodes for pods that do not fit.
    :ivar at_once: how many shops are started at the same time.
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
class Provisioning:
    """Makes a class, or completes one that was interrupted."""

    cluster: Cluster
    plan: Plan
    say: Say

    async def run(self) -> None:
        """Makes the class. Students whose shop is open keep it, and get a new kubeconfig file.

        :raises LabError: the cluster has no mesh, too little room or others' namespaces of these
            names; or a shop does not open.
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
            [each for policy in admission_policies(self.plan.mesh) for each in policy.manifests()]
        )
        for student in students:
            await self.cluster.apply(manifests(student))
        await self._until_policies_apply(students[0])
        limit = asyncio.Semaphore(self.plan.at_once)

        async def provide_shop(student: Student) -> None:
            async with limit:
                if READY not in texts_of(there.get(student.name, {}), "annotations"):
                    await self._install_shop(student, address)

        await _all(provide_shop(student) for student in students)
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
        if POLICY_KIND not in (await self.cluster.run("api-resources", *group)).split():
            raise LabError(
                "This cluster has no ValidatingAdmissionPolicies, which protect students from each "
                "other: use Kubernetes 1.30 or newer."
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
        each = student_requests(mesh)
        if count > (fits := fitting(free, each)):
            raise LabError(
                f"This cluster has room for {fits} more students, not for {count}. Each needs "
                f"{each}; {free} are free. Use a larger cluster or fewer students; or "
                "--autoscaled, if the cluster adds nodes when it needs them."
            )

    async def _until_policies_apply(self, student: Student) -> None:
        """Waits until the API server refuses a pod that mounts its node's files."""
        pod = json.dumps(refused_pod())

        async def is_refused() -> bool:
            try:
                await self.cluster.kubectl(
                    student.name, "create", "--dry-run=server", "-f", "-", given=pod
                )
            except CommandFailed as error:
                return NAME_PREFIX in str(error)
            return False

        await eventually(
            is_refused, "the class's admission policies are in force", _POLICIES_SECONDS, 1.0
        )

    async def _install_shop(self, student: Student, address: str) -> None:
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
            {**chart_values(student.mesh), "image": {"repository": repository, "tag": tag}},
            merged(self.plan.values, more),
        )
        await self.cluster.kubectl(
            student.name, "delete", "secrets", "--selector", PENDING_RELEASES
        )
        await self.cluster.commands.run(
            *("helm", "-n", student.name, "upgrade", "--install", RELEASE, str(CHART)),
            *("--values", "-", "--wait", "--timeout", f"{_INSTALL_SECONDS:.0f}s"),
            given=json.dumps(values),
            within_seconds=_INSTALL_SECONDS + 60,
        )

    async def _install_certificate(self, student: Student) -> None:
        """Installs a certificate for the student's host at the gateway."""
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
        self.say(f"{file}: valid until {expires(token):%Y-%m-%d %H:%M} UTC")

    def _say_where(self, students: Sequence[Student], address: str) -> None:
        self.say(
            f"Give each student their file in {self.plan.folder}. They run `export "
            "KUBECONFIG=…/student-01.kubeconfig`, then `.venv/bin/python -m labs readme 01`. The "
            f"gateway is at {address}. For browsers, add this line to /etc/hosts:"
        )
        host, _, _ = address.rpartition(":")
        self.say(f"{host} {' '.join(student.shop.host for student in students)}")


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Awaits all of them concurrently. Raises the first error after all have ended."""
    for each in await asyncio.gather(*works, return_exceptions=True):
        if each is not None:
            raise each


def _labelled(objects: Sequence[Object], step: str) -> list[Object]:
    """Returns the objects of a step of the mesh's README.md."""
    return [each for each in objects if texts_of(each, "labels").get("meshmart/step") == step]
