"""After a class the cluster is as before. This file is the folder's last: it removes the class."""

from __future__ import annotations

import re

from tests.labs.class_of_three.users import Classroom, StudentUser, cluster_objects
from tests.testkit.waiting import wait_until

_VOLUMES_SECONDS = 180.0
_TOKENS_SECONDS = 60.0


def test_nothing_of_a_class_is_left(classroom: Classroom) -> None:
    user = classroom.users[0]
    kept = classroom.folder / "kept"
    kept.write_text(user.kubeconfig.read_text(encoding="utf-8"), encoding="utf-8")
    classroom.down()

    def is_as_before() -> bool:
        changed = cluster_objects() ^ classroom.before
        print(sorted(changed))
        return not changed

    # Volumes are deleted by their provisioner, a moment later.
    wait_until(is_as_before, "the cluster is as before the class", _VOLUMES_SECONDS)
    assert not list(classroom.folder.glob("*.kubeconfig"))
    former = StudentUser(user.student, kept, user.home)
    wait_until(
        lambda: re.search("Unauthorized|logged in", former.refusal_of("get", "pods")) is not None,
        "the API server refuses a kubeconfig of the class",
        _TOKENS_SECONDS,
    )
