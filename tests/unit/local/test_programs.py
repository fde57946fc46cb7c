"""A process loads the program that it runs, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from services.common.serving.process import EXIT_CONFIGURATION


@pytest.mark.parametrize("service", ["frontend", "order", "payment"])
def test_a_service_loads_neither_a_stand_in_nor_another_service(service: str) -> None:
    # No service has this variant: the process ends right after it has loaded all that it needs.
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "services", service],
        env={**os.environ, "VARIANT": "none-such"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == EXIT_CONFIGURATION
    loaded = set(re.findall(r"\| +(stand_ins|services\.\w+)\.", ended.stderr))
    assert loaded - {"services.common", "services.local", "services.pb"} == {f"services.{service}"}
