"""A student's kubeconfig file: the teacher's cluster, the student's token and their namespace."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from classroom.students import Student
from labs.errors import LabError
from labs.membership import EXTENSION
from services.local.data import write_whole


def kubeconfig(
    of_teacher: Any, student: Student, token: str, *, server: str, gateway_address: str
) -> dict[str, Any]:
    """Returns the file's content.

    :param of_teacher: what ``kubectl config view --raw --minify --flatten -o json`` prints.
    :param token: of the student's ServiceAccount.
    :param server: the API server's URL for students; empty for the teacher's.
    :param gateway_address: where students reach the gateway: ``192.0.2.7:443``.
    """
    cluster: dict[str, Any] = of_teacher["clusters"][0]["cluster"]
    membership = student.membership(gateway_address)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "class", "cluster": {**cluster, **({"server": server} if server else {})}}
        ],
        "users": [{"name": student.name, "user": {"token": token}}],
        "contexts": [
            {
                "name": student.name,
                "context": {
                    "cluster": "class",
                    "user": student.name,
                    "namespace": student.name,
                    "extensions": [
                        {"name": EXTENSION, "extension": membership.model_dump(mode="json")}
                    ],
                },
            }
        ],
        "current-context": student.name,
    }


def file_of(folder: Path, student: Student) -> Path:
    """Returns where a student's kubeconfig file is."""
    return folder / f"{student.name}.kubeconfig"


def write(folder: Path, student: Student, content: dict[str, Any]) -> Path:
    """Writes a student's kubeconfig file, readable for this user only. Returns its path.

    :raises LabError: it cannot be written.
    """
    file = file_of(folder, student)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, json.dumps(content, indent=2))
    except OSError as error:
        raise LabError(
            f"{file} cannot be written ({error.strerror}): choose another folder with --folder."
        ) from error
    return file


def expires(token: str) -> datetime:
    """Returns when a token of a ServiceAccount expires, which may be earlier than requested."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return datetime.fromtimestamp(claims["exp"], UTC)
