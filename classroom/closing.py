"""Takes a class away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from classroom.cluster import GUARDS, Cluster
from classroom.kubeconfig import file_of
from classroom.students import Student
from labs.errors import LabError
from labs.seat import CLASS_LABEL
from tools.mesh import render

_DELETE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Closing:
    """Takes a class away, and what an interrupted one has left."""

    cluster: Cluster
    say: Callable[[str], None]

    async def close(self, folder: Path) -> None:
        """Takes the class away, and what an interrupted one has left.

        :raises LabError: something is still there.
        """
        found = await self.cluster.seated()
        for student in found:
            await self._leave_gateway(student)
        names = [student.name for student in found]
        if names:
            self.say(f"Deleting {names[0]} to {names[-1]} ...")
            await self.cluster.commands.run(
                *("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait"),
                within_seconds=_DELETE_SECONDS,
            )
        await self.cluster.commands.run("kubectl", "delete", GUARDS, "--selector", CLASS_LABEL)
        for student in found:
            file_of(folder, student).unlink(missing_ok=True)
        if left := await self.cluster.left():
            raise LabError(
                f"Parts of the class are left: {', '.join(left)}. Run the command again."
            )
        self.say("Nothing of the class is left." if found else "There was no class.")

    async def _leave_gateway(self, student: Student) -> None:
        """Deletes what speaks of a student outside of their namespace."""
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
        certificate = f"{student.name}-tls-secret"
        await self.cluster.kubectl(namespace, "delete", "secret", certificate, "--ignore-not-found")
