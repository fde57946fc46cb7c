"""Secrets are not in what the system tells of a process, and are there for the process itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")

_PROGRAM = """
import json, os, sys
from pathlib import Path
from services.local.hiding import hide_secrets
hide_secrets()
started_with = Path("/proc/self/environ").read_bytes().decode()
print(json.dumps([dict(os.environ), started_with, os.getpid(), sys.argv[1:]]))
"""


def test_a_process_with_secrets_was_started_without_them() -> None:
    secrets = {"STRIPE_API_KEY": "sk_test_hidden", "SMTP_PASSWORD": "hidden, tö"}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "--an", "argument"],
        env={**os.environ, **secrets, "LOG_LEVEL": "debug"},
        stdout=subprocess.PIPE,
    )
    output, _ = process.communicate(timeout=60)
    environment, started_with, pid, arguments = json.loads(output)
    assert {name: environment[name] for name in secrets} == secrets
    assert environment["LOG_LEVEL"] == "debug"
    assert not [name for name in environment if name.endswith("SECRETS_FD")]
    assert "hidden" not in started_with
    assert "LOG_LEVEL=debug" in started_with
    assert (pid, arguments) == (process.pid, ["--an", "argument"])
