"""Copies of the data folder that can be restored, also while the shop runs.

A copy file by file would have each store of another moment, and orders that no step of the checkout
explains. So all writers are stopped for a moment, which is the one that the copy is of: what a
service has not stored by then has not happened, and what was under way is resumed as after a crash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ValidationError

from services.common.clock import now_ms
from services.common.errors import ConfigurationError
from services.common.topology import load_topology
from services.local import data
from services.local.data import Say
from services.local.programs import SANDBOX

_MANIFEST = "backup.json"
_SANDBOX_FILE = f"{SANDBOX}.db"
# How long the processes' writes under way may take.
_LOCK_SECONDS = 30.0
_SANDBOX_SECONDS = 60.0


class BackupManifest(BaseModel):
    """What a backup holds. It is written last: a backup without one is not whole.

    :ivar made_ms: Unix milliseconds.
    :ivar files: the SHA-256 of each file, by name.
    """

    made_ms: int
    files: dict[str, str]


def back_up(folder: Path, target: Path, say: Say) -> None:
    """Copies the data of a shop, which may be running, to a new folder.

    :raises ConfigurationError: there is no such data, or the target cannot be used.
    """
    databases = databases_in(folder, services_with_database(data.running_services(folder)))
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ConfigurationError(f"The folder {target} is not empty: name a new one.")
        with data.held(folder) as is_free:
            paused_seconds = _copy(folder, databases, target, is_running=not is_free)
        data.copy_cookie_key(folder, target)
        files = {file.name: _digest(file) for file in sorted(target.iterdir())}
        manifest = BackupManifest(made_ms=now_ms(), files=files)
        data.write_whole(target / _MANIFEST, manifest.model_dump_json(indent=2))
    except OSError as error:
        raise ConfigurationError(
            f"The backup in {target} cannot be made ({error.strerror or error})."
        ) from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"The data in {folder} cannot be copied: {error}.") from error
    say(
        f"The shop's data is in {target}: {len(files)} files. "
        f"Writes waited for {paused_seconds * 1000:.0f} ms."
    )


def restore(source: Path, folder: Path, say: Say) -> None:
    """Replaces the data of a stopped shop by a backup.

    :raises ConfigurationError: it is no whole backup, or the shop runs.
    """
    manifest = _read_manifest(source)
    _check_files(source, manifest)  # before the folder is touched
    data.prepare(folder, say)
    descriptor = data.lock(folder, say)
    try:
        with TemporaryDirectory(dir=folder, prefix="restoring-") as copies:
            _copy_files(source, Path(copies), manifest)
            data.clear_stores(folder)
            for copy in sorted(Path(copies).iterdir()):
                copy.replace(folder / copy.name)
    except OSError as error:
        raise ConfigurationError(
            f"The backup cannot be restored to {folder} ({error.strerror}: {error.filename})."
        ) from error
    finally:
        os.close(descriptor)
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.made_ms / 1000))
    say(
        f"The data in {folder} is that of {made}. "
        f"Compare it with Stripe: python -m services audit --data {folder}"
    )


def databases_in(folder: Path, services: Iterable[str]) -> list[Path]:
    """Returns the databases of these services.

    :raises ConfigurationError: there is no such data; or one is missing, or is none.
    """
    if not any(folder.glob("*.db")):
        raise ConfigurationError(
            f"The folder {folder} has no data of a shop: choose another with --data DIR."
        )
    files = sorted(folder / f"{service}.db" for service in services)
    for file in files:
        if not file.exists():
            raise ConfigurationError(f"The store {file} is missing: restore a backup.")
        try:
            with closing(_connect(file)) as connection:
                connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"The store {file} cannot be read ({error}): restore a backup."
            ) from error
    return files


def copy_database(source: Path, target: Path) -> None:
    """Copies one database as it is at one moment, whoever writes to it meanwhile."""
    with closing(_connect(source)) as connection:
        _copy_to(connection, target)


def services_with_database(running: Sequence[str]) -> list[str]:
    """Returns the services with a database: of those that run, or of all when none does."""
    declared = load_topology().services
    return [
        name
        for name, service in declared.items()
        if service.database and (not running or name in running)
    ]


def _copy(folder: Path, databases: list[Path], target: Path, *, is_running: bool) -> float:
    """Copies all databases as they are at one moment. Returns for how long nobody could write."""
    with ExitStack() as readers:
        connections = {file: readers.enter_context(closing(_connect(file))) for file in databases}
        began = time.monotonic()
        with ExitStack() as writers:
            for file in databases:
                writers.enter_context(_kept_from_writing(file))
            for connection in connections.values():
                # A read transaction sees what was committed when it first read
                # (https://www.sqlite.org/isolation.html), so that writers need not wait for it.
                connection.execute("BEGIN")
                connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            # Stripe's effects come after the states that announce them, so its copy comes last.
            if is_running:
                _fetch_sandbox(folder, target)
            elif (folder / _SANDBOX_FILE).exists():
                copy_database(folder / _SANDBOX_FILE, target / _SANDBOX_FILE)
        paused_seconds = time.monotonic() - began
        for file, connection in connections.items():
            _copy_to(connection, target / file.name)
    return paused_seconds


@contextmanager
def _kept_from_writing(file: Path) -> Generator[None]:
    with closing(_connect(file)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def _connect(file: Path) -> sqlite3.Connection:
    # Only what is there: a database that is missing must not come to be.
    uri = f"{file.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)


def _copy_to(connection: sqlite3.Connection, target: Path) -> None:
    target.touch(mode=0o600)
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)


def _fetch_sandbox(folder: Path, target: Path) -> None:
    """Asks the running sandbox, which lets nobody else read its file, for a copy of it."""
    url = data.url_of(folder, SANDBOX)
    if url is None:
        return  # the shop pays at Stripe itself
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with (
            opener.open(f"{url}/sandbox/backup", timeout=_SANDBOX_SECONDS) as answer,
            (target / _SANDBOX_FILE).open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, TimeoutError) as error:
        raise ConfigurationError(
            f"The Stripe sandbox at {url} cannot be copied ({error}): try again, or stop the shop."
        ) from error


def _check_files(source: Path, manifest: BackupManifest) -> None:
    for name in manifest.files:
        try:
            _check_file(source, source / name, manifest)
        except OSError as error:
            raise ConfigurationError(
                f"The backup in {source} is incomplete: {name} cannot be read ({error.strerror}). "
                "Use another backup."
            ) from error


def _copy_files(source: Path, target: Path, manifest: BackupManifest) -> None:
    for name in manifest.files:
        shutil.copyfile(source / name, target / name)
        (target / name).chmod(0o600)
        _check_file(source, target / name, manifest)


def _check_file(source: Path, file: Path, manifest: BackupManifest) -> None:
    if _digest(file) != manifest.files[file.name]:
        raise ConfigurationError(
            f"The file {source / file.name} is not what was backed up: use another backup."
        )


def _read_manifest(source: Path) -> BackupManifest:
    try:
        manifest = BackupManifest.model_validate_json((source / _MANIFEST).read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise ConfigurationError(
            f"The folder {source} has no complete backup: its {_MANIFEST} cannot be read."
        ) from error
    if not all(Path(name).name == name for name in manifest.files):
        raise ConfigurationError(f"The backup in {source} names files outside of it.")
    return manifest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
