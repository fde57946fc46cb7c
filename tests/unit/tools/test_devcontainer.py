"""The development container: the Python of the image, and commands that the Makefile has."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from services.common.topology import load_topology
from services.local.ports import usual_http
from services.local.programs import SANDBOX
from tools.wheels import python_version

ROOT = Path(__file__).parents[3]
CONTAINER: dict[str, Any] = json.loads(
    (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
)


def test_its_python_is_that_of_the_image() -> None:
    assert CONTAINER["image"].endswith(f"/python:{python_version()}")


def test_it_opens_the_shop() -> None:
    shop = usual_http("frontend", list(load_topology().services).index("frontend"))
    assert CONTAINER["portsAttributes"][str(shop)]["onAutoForward"] == "openBrowser"
    assert CONTAINER["forwardPorts"] == [shop, usual_http(SANDBOX, 0)]


def test_its_commands_are_there() -> None:
    commands = [value for key, value in CONTAINER.items() if key.endswith("Command")]
    goals = [goal for command in commands for goal in re.findall(r"\bmake (\S+)", command)]
    assert len(goals) == 2
    for goal in goals:
        subprocess.run(
            shlex.split(f"make --dry-run {goal}"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
