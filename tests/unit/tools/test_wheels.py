"""`make wheels`, with a folder in the place of the package index."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.wheels import platforms, python_version, wheels


def offer(folder: Path, tag: str) -> Path:
    """Puts one wheel into a folder. Returns the lock that asks for it."""
    wheel = folder / f"oak-1.0-{tag}.whl"
    metadata = "Metadata-Version: 2.1\nName: oak\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("oak-1.0.dist-info/METADATA", metadata)
        archive.writestr("oak-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr("oak-1.0.dist-info/RECORD", "")
    lock = folder / "requirements.lock"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"oak==1.0 --hash=sha256:{digest}\n", encoding="utf-8")
    return lock


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into, and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "tag",
    ["py3-none-any", "cp314-cp314-manylinux_2_28_aarch64", "cp310-abi3-manylinux2014_aarch64"],
)
def test_a_wheel_for_that_machine_is_listed(index: Path, tag: str) -> None:
    assert wheels("aarch64", "3.14", offer(index, tag)) == [f"oak-1.0-{tag}.whl"]


@pytest.mark.parametrize(
    "tag", ["cp314-cp314-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_28_aarch64"]
)
def test_a_wheel_for_another_machine_or_python_is_none(
    index: Path, tag: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        wheels("aarch64", "3.14", offer(index, tag))
    assert "No matching distribution found for oak==1.0" in capfd.readouterr().err


def test_it_asks_for_what_the_image_is_made_of() -> None:
    assert python_version().startswith("3.")
    assert "manylinux_2_28_aarch64" in platforms("aarch64")
