"""The users of a class: its students, each with a kubeconfig file, and its teacher."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from classroom.students import Student
from labs.commands import Programs
from labs.meshed import MeshedShop
from tests.testkit.cluster import ROOT, CommandFailed, run

_COMMAND_SECONDS, _DOWN_SECONDS = 600.0, 900.0


@dataclass(frozen=True, slots=True)
class StudentUser:
    """A student, who has a kubeconfig file and nothing else.

    :ivar home: the folder for what their runner remembers.
    """

    student: Student
    kubeconfig: Path
    home: Path

    @property
    def name(self) -> str:
        """Their name, which is also their namespace's."""
        return self.student.name

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Returns what ``kubectl`` prints to them.

        :raises CommandFailed: it ended with an error.
        """
        return run("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments, given=given)

    def refusal_of(self, *arguments: str, given: str | None = None) -> str:
        """Returns why ``kubectl`` fails; empty when it does not."""
        try:
            self.kubectl(*arguments, given=given)
        except CommandFailed as error:
            return str(error)
        return ""

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        """Returns what ``kubectl auth can-i`` says of a resource: ``pods`` or ``pods/exec``."""
        # To kubectl itself the second part of pods/exec would be a name.
        whole, _, part = resource.partition("/")
        asked = ("auth", "can-i", verb, whole, *((f"--subresource={part}",) if part else ()))
        refusal = self.refusal_of(*asked, "-n", namespace)
        assert not refusal or re.search(r"\sno( - .*)?$", refusal), refusal
        return not refusal

    def labs(self, *arguments: str) -> tuple[int, str]:
        """Runs ``python -m labs``. Returns its exit status, and what it prints."""
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
            timeout=_COMMAND_SECONDS,
            cwd=ROOT,
            check=False,
        )
        print(f"{self.name}$ labs {' '.join(arguments)}\n{done.stdout}")
        return done.returncode, done.stdout

    def shop(self, gateway_address: str) -> MeshedShop:
        """Returns their shop, with the rights of the tests' own kubeconfig."""
        return MeshedShop(Programs(), self.student.shop, gateway_address=gateway_address)


@dataclass(frozen=True, slots=True)
class Classroom:
    """A class, and what its teacher does.

    :ivar gateway_address: where students reach the gateway: ``192.0.2.7:443``.
    :ivar folder: of the kubeconfig files.
    :ivar before: the objects that the cluster had before the class.
    """

    users: Sequence[StudentUser]
    gateway_address: str
    folder: Path
    before: frozenset[str]

    def run(self, *arguments: str, within_seconds: float = _COMMAND_SECONDS) -> str:
        """Returns what ``python -m classroom`` prints.

        :raises CommandFailed: it ended with an error.
        """
        said = run(*(sys.executable, "-m", "classroom", *arguments), within_seconds=within_seconds)
        print(said)
        return said

    def reset(self, user: StudentUser) -> None:
        """Restores a student's base."""
        self.run("reset", user.name, "--gateway-address", self.gateway_address)

    def solve(self, user: StudentUser) -> None:
        """Solves the lab that a student has under way."""
        self.run("solve", user.name, "--gateway-address", self.gateway_address)

    def down(self) -> None:
        """Removes the class."""
        self.run("down", "--folder", str(self.folder), within_seconds=_DOWN_SECONDS)


# Objects that are not made for the class, or change all the time.
_VOLATILE = re.compile(
    r"events?(\.events\.k8s\.io)?|leases\..*|componentstatuses|.*\.metrics\..*"
    r"|certificatesigningrequests\..*|volumeattachments\..*"
)


def cluster_objects() -> frozenset[str]:
    """Returns the names of all objects of the cluster itself and of the gateways' namespaces."""
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
