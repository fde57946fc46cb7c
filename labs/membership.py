"""Membership in a class (classroom/): what a student's kubeconfig file says of their shop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from labs.commands import Commands

# The label of the teacher's objects, which labs leave alone. A namespace with it is a student's.
CLASS_LABEL = "meshmart/class"
# The name of the extension of a kubeconfig's context.
EXTENSION = "meshmart"


class Membership(BaseModel):
    """Where a student's shop is.

    :ivar options: those of ``python -m tools.mesh render`` that describe it.
    :ivar gateway_address: where students reach the gateway, ``192.0.2.7:443``; empty where they
        forward a port.
    """

    mesh: Literal["istio", "linkerd"]
    options: Sequence[str]
    gateway_address: str = ""


async def membership_of(commands: Commands) -> Membership | None:
    """Returns what the kubeconfig's current context says; None for everybody who is in no class.

    :raises CommandFailed: there is a kubeconfig, and it cannot be read.
    """
    if shutil.which("kubectl") is None:
        return None
    config = json.loads(await commands.run("kubectl", "config", "view", "-o", "json"))
    for each in config["contexts"] or ():
        if each["name"] == config["current-context"]:
            for extension in each["context"].get("extensions") or ():
                if extension["name"] == EXTENSION:
                    return Membership.model_validate(extension["extension"])
    return None
