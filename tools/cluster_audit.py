"""The audit of a shop in a cluster: docs/backup.md."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

# The URL comes by standard input, so that no list of processes shows it.
_SCRIPT = (
    "read -r DATABASE_URL; export DATABASE_URL; python -m services audit; echo audit status $?"
)
# Arguments of kubectl, in the shop's namespace: where the databases are, and the audit itself.
SECRET_COMMAND: Sequence[str] = ("get", "secret", "mongodb", "-o", "json")
AUDIT_COMMAND: Sequence[str] = (
    *("exec", "-i", "deployment/payment-service", "-c", "payment", "--"),
    *("sh", "-c", _SCRIPT),
)


def given(secret: str) -> str:
    """Returns the standard input of the audit, for the output of the first command."""
    url = base64.b64decode(json.loads(secret)["data"]["url"]).decode()
    return f"{url}\n"


def outcome(said: str) -> tuple[int, Sequence[str]]:
    """Returns the audit's exit status, and the lines that it has printed."""
    *lines, status = said.strip().splitlines()
    return int(status.rpartition(" ")[2]), lines
