"""One service that starts again when its code changes, as under `skaffold dev`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from services.common.listening import LOOPBACK
from services.local.ports import Ports
from services.local.reloading import code_of
from tests.testkit.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Reloading:
    """`notification` from a copy of the code that the test may change."""

    def __init__(self, folder: Path, ports: Ports, settings: Mapping[str, str]) -> None:
        self.code = folder / "services"
        shutil.copytree(
            ROOT / "services", self.code, ignore=shutil.ignore_patterns("__pycache__", "catalogue")
        )
        self.http_port, grpc_port = ports.http("notification"), ports.grpc("notification", 0)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services", "--reload", "notification"],
            cwd=folder,
            env={
                **os.environ,
                "HOST": LOOPBACK,
                "HTTP_PORT": str(self.http_port),
                "GRPC_PORT": str(grpc_port),
                "DATABASE_URL": f"sqlite:///{folder}",
                **settings,
            },
            stdout=subprocess.DEVNULL,
        )

    def serving_pid(self) -> int | None:
        """The process that listens; None while there is none."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                connections = child.net_connections("tcp")
            except psutil.Error:
                continue
            if any(c.status == "LISTEN" and c.laddr.port == self.http_port for c in connections):
                return child.pid
        return None

    def save(self, file: str, text: str) -> None:
        """Saves a file of the code with something more in it."""
        path = self.code / file
        path.write_text(f"{path.read_text(encoding='utf-8')}\n{text}\n", encoding="utf-8")


@contextmanager
def started(folder: Path, **settings: str) -> Generator[Reloading]:
    """The service, which is ended at the end and leaves no process behind."""
    with closing(Ports({}, any_free=True)) as ports:
        reloading = Reloading(folder, ports, settings)
        yield reloading
        family = psutil.Process(reloading.process.pid).children(recursive=True)
        try:
            reloading.process.send_signal(signal.SIGTERM)
            reloading.process.wait(20)
            _, alive = psutil.wait_procs(family, 5)
            assert not alive, "it left processes behind"
        finally:
            reloading.process.kill()
            reloading.process.wait()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.fixture
def reloading(tmp_path: Path) -> Generator[Reloading]:
    with started(tmp_path) as reloading:
        yield reloading


def test_a_change_starts_it_again_and_a_mistake_waits_for_its_mending(
    reloading: Reloading,
) -> None:
    def another_than(former: int) -> int | None:
        pid = reloading.serving_pid()
        return pid if pid != former else None

    first = wait_until(reloading.serving_pid, "it serves", 30)
    reloading.save("notification/model.py", "# changed")
    second = wait_until(lambda: another_than(first), "another process serves", 30)

    reloading.save("common/serving/host.py", "raise RuntimeError('a mistake')")
    wait_until(lambda: reloading.serving_pid() is None, "none serves", 30)
    reloading.code.joinpath("common/serving/host.py").write_text(
        (ROOT / "services/common/serving/host.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    wait_until(lambda: another_than(second), "a process serves again", 30)


# In debugpy's place: notes where it would listen, and runs what it is given.
_DEBUGGER = """\
import runpy, sys
from pathlib import Path
_, listen, address, option, module, *arguments = sys.argv
assert (listen, option) == ("--listen", "-m")
Path(__file__).with_name("address").write_text(address)
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def test_it_runs_under_the_debugger_of_a_debug_image(tmp_path: Path) -> None:
    debugger = tmp_path / "packages" / "debugpy"
    debugger.mkdir(parents=True)
    debugger.joinpath("__main__.py").write_text(_DEBUGGER, encoding="utf-8")
    with started(tmp_path, DEBUG_PORT="5678", PYTHONPATH=str(debugger.parent)) as reloading:
        wait_until(reloading.serving_pid, "it serves", 30)
        # The loopback: only a forwarded port leads there.
        assert debugger.joinpath("address").read_text(encoding="utf-8") == "127.0.0.1:5678"


def test_only_its_own_code_and_what_all_share_is_watched() -> None:
    watched = {path.name for path in code_of("order")}
    assert watched == {"order", "common", "pb", "local", "topology.yaml"}
    assert all(path.exists() for path in code_of("order"))
