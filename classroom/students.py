"""The students of a class: the names of their namespaces and hosts, and their shops."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from labs.errors import LabError
from labs.membership import Membership
from tools.mesh import render
from tools.mesh.render import MeshName

MOST = 99
_NAME = re.compile(r"student-\d\d")
_CERTIFICATE_SUFFIX = "-tls-secret"


def gateway_of(mesh: MeshName) -> render.IngressGateway:
    """Returns the gateway that all shops of a class share."""
    return render.ISTIOCTL if mesh == "istio" else render.TRAEFIK


@dataclass(frozen=True, slots=True)
class Student:
    """A student.

    :ivar name: ``student-01``, which is also the namespace's name.
    """

    name: str
    mesh: MeshName

    @property
    def shop(self) -> render.Shop:
        """The student's shop, with its Stripe sandbox in the same namespace."""
        return render.Shop(
            mesh=self.mesh,
            namespace=self.name,
            host=f"{self.name}.example.com",
            gateway=gateway_of(self.mesh),
            stripe_namespace=self.name,
        )

    @property
    def certificate_secret(self) -> str:
        """The name of the Secret with the host's certificate, in the gateway's namespace."""
        return f"{self.name}{_CERTIFICATE_SUFFIX}"

    def membership(self, gateway_address: str) -> Membership:
        """Returns what their kubeconfig file says of the shop.

        :param gateway_address: where students reach the gateway: ``192.0.2.7:443``.
        """
        options = ("--mesh", self.mesh, "--namespace", self.name, "--stripe-namespace", self.name)
        return Membership(mesh=self.mesh, options=options, gateway_address=gateway_address)


def students_of(count: int, mesh: MeshName) -> list[Student]:
    """Returns `count` students, from ``student-01`` on.

    :raises LabError: a class cannot have as many.
    """
    if not 1 <= count <= MOST:
        raise LabError(f"A class has 1 to {MOST} students, not {count}: STUDENTS=12")
    return [Student(f"student-{number:02}", mesh) for number in range(1, count + 1)]


def is_students_name(name: str) -> bool:
    """Returns whether a namespace has the name of a student's."""
    return _NAME.fullmatch(name) is not None


def student_of_certificate(secret: str, mesh: MeshName) -> Student:
    """Returns the student whose certificate a Secret in the gateway's namespace holds."""
    return Student(secret.removesuffix(_CERTIFICATE_SUFFIX), mesh)


def chosen(given: str, there: Sequence[Student]) -> list[Student]:
    """Returns the students that `given` names: ``3``, ``03``, ``student-03`` or ``all``.

    :raises LabError: nobody has that name.
    """
    if given == "all" and there:
        return list(there)
    name = f"student-{int(given):02}" if given.isdecimal() and len(given) < 3 else given
    found = [each for each in there if each.name == name]
    if not found:
        names = f"{there[0].name} to {there[-1].name}, or all" if there else "no students at all"
        raise LabError(f"There is no student {given!r}; there are {names}.")
    return found
