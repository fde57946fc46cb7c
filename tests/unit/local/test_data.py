"""The data folder: who may read it, and what is left there by crashes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.errors import ConfigurationError
from services.local import data


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


class TestPrepare:
    def test_closes_an_old_folder_to_others_and_says_so(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        (folder / "logs").mkdir(parents=True)
        for name in ("auth.db", "frontend.secret", "shop.lock", "logs/auth.log"):
            (folder / name).touch()
            (folder / name).chmod(0o644)
        folder.chmod(0o755)
        said: list[str] = []
        data.prepare(folder, said.append)
        assert modes(folder) - {0o644} == {0o700, 0o600}
        assert (folder / "auth.db").stat().st_mode & 0o077 == 0
        assert said == [f"Others could read the shop's data in {folder}; now only you can."]
        data.prepare(folder, said.append)
        assert len(said) == 1

    def test_leaves_alone_what_is_not_the_shops(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        mine = tmp_path / "notes.txt"
        mine.touch(mode=0o644)
        mine.chmod(0o644)
        data.prepare(tmp_path, print)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
        assert stat.S_IMODE(mine.stat().st_mode) == 0o644

    def test_refuses_a_file_in_one_sentence(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(ConfigurationError) as refused:
            data.prepare(file, print)
        assert str(file) in str(refused.value)
        assert "--data DIR" in str(refused.value)


class TestKeptSecret:
    def test_is_made_once(self, tmp_path: Path) -> None:
        first = data.kept_secret(tmp_path)
        assert data.kept_secret(tmp_path) == first
        assert modes(tmp_path) >= {0o600}

    @pytest.mark.parametrize("left", ["", "half"])
    def test_that_a_crash_left_unfinished_is_made_again(self, tmp_path: Path, left: str) -> None:
        (tmp_path / "frontend.secret").write_text(left)
        assert len(data.kept_secret(tmp_path)) >= 48

    def test_that_cannot_be_made_names_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "frontend.secret").mkdir()
        with pytest.raises(ConfigurationError, match=r"frontend\.secret"):
            data.kept_secret(tmp_path)


class TestLock:
    def test_names_the_shop_that_has_it(self, tmp_path: Path) -> None:
        held = data.lock(tmp_path, print)
        with pytest.raises(ConfigurationError, match=rf"Another shop \(pid {os.getpid()}\)"):
            data.lock(tmp_path, print)
        os.close(held)
        os.close(data.lock(tmp_path, print))

    def test_that_cannot_be_opened_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "shop.lock").mkdir()
        with pytest.raises(ConfigurationError, match=r"shop\.lock cannot be opened"):
            data.lock(tmp_path, print)

    def test_waits_for_the_processes_of_a_killed_shop(self, tmp_path: Path) -> None:
        """The child holds the lock of its parent, which is dead, until its input ends."""
        script = (
            "import os, sys, fcntl; fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR);"
            "fcntl.flock(fd, fcntl.LOCK_EX); os.write(fd, sys.argv[2].encode());"
            "print('held', flush=True); sys.stdin.read()"
        )
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        command = [sys.executable, "-c", script, str(tmp_path / "shop.lock"), str(gone.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
            assert orphan.stdin is not None
            assert orphan.stdout is not None
            orphan.stdout.readline()
            stdin = orphan.stdin
            said: list[str] = []

            def say(line: str) -> None:
                said.append(line)
                stdin.close()

            os.close(data.lock(tmp_path, say))
        assert said == [
            f"Waiting for the processes of a shop that was killed (pid {gone.pid}) to end ..."
        ]
