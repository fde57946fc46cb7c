"""Programs are run, and what they say of an error is passed on."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from labs.commands import Programs
from labs.errors import CommandFailed, LabError


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, which a test writes."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "kubectl"


def _write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


async def test_what_it_prints_of_what_it_is_given(kubectl: Path) -> None:
    _write(kubectl, 'echo "$1"; cat')
    assert await Programs().run("kubectl", "apply", given="x") == "apply\nx"


async def test_what_it_says_of_an_error(kubectl: Path) -> None:
    _write(kubectl, "echo out; echo no such kind >&2; exit 1")
    with pytest.raises(CommandFailed, match=r"^kubectl get x: no such kind$"):
        await Programs().run("kubectl", "get", "x")


async def test_one_that_takes_too_long_is_ended(kubectl: Path) -> None:
    _write(kubectl, "exec sleep 60")
    with pytest.raises(CommandFailed, match=r"^kubectl wait: not done in 0\.2 s$"):
        await Programs().run("kubectl", "wait", within_seconds=0.2)


async def test_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"^helm is needed, and is not on the PATH"):
        await Programs().run("helm", "list")


async def test_a_port_is_forwarded_and_given_back(kubectl: Path, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    forwarding = "echo 'Forwarding from 127.0.0.1:4711 -> 8443'"
    _write(kubectl, f"trap 'touch {ended}; exit' TERM; {forwarding}; while :; do sleep 0.1; done")
    async with Programs().forwarded("istio-system", "service/gateway", 443) as address:
        assert address == "127.0.0.1:4711"
        assert not ended.exists()
    assert ended.exists()


async def test_a_port_that_cannot_be_forwarded(kubectl: Path) -> None:
    _write(kubectl, 'echo "services \\"gateway\\" not found" >&2; exit 1')
    with pytest.raises(CommandFailed, match=r'port-forward .*: services "gateway" not found'):
        async with Programs().forwarded("istio-system", "service/gateway", 443):
            pytest.fail("nothing is forwarded")
