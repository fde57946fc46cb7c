"""The students of a class: how their namespaces and hosts are called, and where their shops are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from labs.errors import LabError
from labs.seat import Seat
from tools.mesh import render
from tools.mesh.render import MeshName

MOST = 99
_NAME = re.compile(r"student-(\d\d)")


def gateway_of(mesh: MeshName) -> render.IngressGateway:
    """The gateway that all shops of a class share."""
    return render.ISTIOCTL if mesh == "istio" else render.TRAEFIK


@dataclass(frozen=True, slots=True)
class Student:
    """One of them.

    :ivar name: ``student-01``, which is also the namespace's.
    """

    name: str
    mesh: MeshName

    @property
    def shop(self) -> render.Shop:
        """The shop, whose Stripe sandbox is in the student's own namespace."""
        return render.Shop(
            mesh=self.mesh,
            namespace=self.name,
            host=f"{self.name}.example.com",
            gateway=gateway_of(self.mesh),
            stripe_namespace=self.name,
        )

    def seat(self, gateway_address: str) -> Seat:
        """What their kubeconfig file says of the shop."""
        options = ("--mesh", self.mesh, "--namespace", self.name, "--stripe-namespace", self.name)
        return Seat(mesh=self.mesh, options=options, gateway_address=gateway_address)


def students_of(count: int, mesh: MeshName) -> list[Student]:
    """So many, from ``student-01`` on.

    :raises LabError: there cannot be as many.
    """
    if not 1 <= count <= MOST:
        raise LabError(f"A class has 1 to {MOST} students, not {count}: STUDENTS=12")
    return [Student(f"student-{number:02}", mesh) for number in range(1, count + 1)]


def is_students_name(name: str) -> bool:
    """Whether a namespace may be a student's."""
    return _NAME.fullmatch(name) is not None


def chosen(given: str, there: Sequence[Student]) -> list[Student]:
    """Those who are meant: ``3``, ``03``, ``student-03`` or ``all``.

    :raises LabError: there is nobody of that name.
    """
    if given == "all" and there:
        return list(there)
    name = f"student-{int(given):02}" if given.isdecimal() and len(given) < 3 else given
    found = [each for each in there if each.name == name]
    if not found:
        names = f"{there[0].name} to {there[-1].name}, or all" if there else "no students at all"
        raise LabError(f"There is no student {given!r}; there are {names}.")
    return found
