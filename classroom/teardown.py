"""Removes a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from classroom.cluster import POLICY_KINDS, Cluster
from classroom.kubeconfig import file_of
from classroom.students import Student
from labs.errors import LabError
from labs.membership import CLASS_LABEL
from tools.mesh import render

_DELETE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Teardown:
    """Removes a class, also one whose provisioning or removal was interrupted."""

    cluster: Cluster
    say: Callable[[str], None]

    async def run(self, folder: Path) -> None:
        """Deletes all that the class has in the cluster, and the kubeconfig files.

        :param folder: of the kubeconfig files.
        :raises LabError: something is still there.
        """
        students = await self.cluster.find_students()
        for student in students:
            await self._delete_at_gateway(student)
        names = [student.name for student in students]
        if names:
            self.say(f"Deleting {names[0]} to {names[-1]} ...")
            await self.cluster.commands.run(
                *("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait"),
                within_seconds=_DELETE_SECONDS,
            )
        await self.cluster.run("delete", POLICY_KINDS, "--selector", CLASS_LABEL)
        for student in students:
            file_of(folder, student).unlink(missing_ok=True)
        if left := await self.cluster.leftovers():
            raise LabError(f"Some of the class is left: {', '.join(left)}. Run it again.")
        self.say("Nothing of the class is left." if students else "There was no class.")

    async def _delete_at_gateway(self, student: Student) -> None:
        """Deletes a student's objects outside of their namespace."""
        base = render.rendered(student.shop, "base")
        outside = [each for each in base if each["metadata"]["namespace"] != student.name]
        if outside:
            await self.cluster.run(
                "delete", "--ignore-not-found", "-f", "-", given=render.text_of(outside)
            )
        namespace = student.shop.gateway.namespace
        if student.mesh == "istio":
            mine = ("--selector", f"meshmart/shop={student.name}")
            await self.cluster.kubectl(
                namespace, "delete", "envoyfilters.networking.istio.io", *mine
            )
        await self.cluster.kubectl(
            namespace, "delete", "secret", student.certificate_secret, "--ignore-not-found"
        )
