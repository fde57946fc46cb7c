"""What the README tells people to type does what it says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.harness.shop import Shop

README = Path(__file__).parents[2] / "README.md"
_ADDRESS = "http://127.0.0.1:8080"


def _shell_blocks() -> list[str]:
    return re.findall(
        r"^```sh\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def test_the_shell_example_buys_something(shop: Shop) -> None:
    (example,) = (block for block in _shell_blocks() if block.startswith(f"shop={_ADDRESS}\n"))
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.replace(_ADDRESS, shop.url)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    catalogue, rest_at = json.JSONDecoder().raw_decode(run.stdout)
    order = json.loads(run.stdout[rest_at:])
    assert "oak-serving-board" in {item["id"] for item in catalogue["items"]}
    assert order["state"] == "confirmed"
