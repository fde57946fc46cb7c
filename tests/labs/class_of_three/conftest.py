"""A class of three, each with an open shop."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from classroom.kubeconfig import file_of
from classroom.students import students_of
from tests.cluster.release import IMAGE
from tests.labs.class_of_three.users import Classroom, StudentUser, cluster_objects
from tests.mesh.meshed import NODE, Mesh, gateway_port
from tests.mesh.shops import chosen

_UP_SECONDS = 1700.0


@pytest.fixture(scope="package")
def kind(request: pytest.FixtureRequest) -> type[Mesh]:
    """Which mesh the class is in."""
    kind = chosen(request.config)
    if kind.name == "none":
        pytest.skip("a class is in a mesh")
    return kind


@pytest.fixture(scope="package")
def classroom(kind: type[Mesh], tmp_path_factory: pytest.TempPathFactory) -> Generator[Classroom]:
    """The class; removed before the next folder's tests begin."""
    assert kind.name != "none"
    folder = tmp_path_factory.mktemp("class")
    address = f"{NODE}:{gateway_port('https', kind.way_in)}"
    users = [
        StudentUser(each, file_of(folder, each), folder / each.name)
        for each in students_of(3, kind.name)
    ]
    Classroom(users, address, folder, frozenset()).down()  # one of an interrupted run
    classroom = Classroom(users, address, folder, cluster_objects())
    try:
        classroom.run(
            *("up", "--students", "3", "--mesh", kind.name, "--image", IMAGE),
            *("--folder", str(folder), "--gateway-address", address),
            within_seconds=_UP_SECONDS,
        )
        yield classroom
    finally:
        classroom.down()
