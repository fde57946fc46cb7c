"""The shop's data folder on this machine: who may read it, and which shop runs on it."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from services.common.errors import ConfigurationError

STATE_FILE = "shop.json"
_LOCK_FILE = "shop.lock"
_COOKIE_KEY_FILE = "frontend.secret"
_STORES = ("*.db", "*.db-wal", "*.db-shm", _COOKIE_KEY_FILE)
_OWN_FILES = (*_STORES, STATE_FILE, "logs/*.log*", "mails/*")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SECRET_BYTES = 48
# How long the processes of a shop whose parent was killed may take to end.
_ORPHAN_SECONDS = 15.0
_PAUSE_SECONDS = 0.1

Say = Callable[[str], None]


class Process(BaseModel):
    """One process of a shop that is open."""

    service: str
    instance: str
    pid: int
    url: str
    internal_url: str
    grpc_port: int | None


class OpenShop(BaseModel):
    """Where everything of a shop that is open is."""

    parent_pid: int
    processes: tuple[Process, ...]

    def of_service(self, service: str) -> list[Process]:
        """The processes of one service."""
        return [process for process in self.processes if process.service == service]


def prepare(data: Path, say: Say) -> None:
    """Makes the folder, for nobody else to read: it holds signing keys and password hashes.

    An older folder that others can read is closed to them, which is said.

    :raises ConfigurationError: there can be no such folder, or it cannot be written.
    """
    was_ours = (data / _LOCK_FILE).exists()
    try:
        (data / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
        if was_ours:
            data.chmod(0o700)
        own = (data / "logs", *(file for pattern in _OWN_FILES for file in data.glob(pattern)))
        readable = [path for path in own if path.stat().st_mode & _OTHERS]
        for path in readable:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {data} cannot be used ({error.strerror}: {error.filename}): "
            "choose one that you can write, with --data DIR."
        ) from error
    if not os.access(data, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"The data folder {data} cannot be written: choose another with --data DIR."
        )
    if readable:
        say(f"Others could read the shop's data in {data}; now only you can.")


def lock(data: Path, say: Say) -> int:
    """Takes the folder for this shop. Returns the descriptor that holds it until it is closed.

    The processes of a shop whose parent was killed hold it until they have ended: they are waited
    for.

    :raises ConfigurationError: another shop runs there.
    """
    file = data / _LOCK_FILE
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The file {file} cannot be opened ({error.strerror}): "
            "make it writable, or delete it while no shop runs there."
        ) from error
    until = time.monotonic() + _ORPHAN_SECONDS
    has_said = False
    while not _is_locked(descriptor):
        holder = _holder(descriptor)
        is_orphaned = holder is not None and not _is_alive(holder)
        if not is_orphaned or time.monotonic() > until:
            os.close(descriptor)
            raise ConfigurationError(_taken(data, holder, is_orphaned=is_orphaned))
        if not has_said:
            say(f"Waiting for the processes of a shop that was killed (pid {holder}) to end ...")
            has_said = True
        time.sleep(_PAUSE_SECONDS)  # flock(2) waits for ever or not at all
    os.ftruncate(descriptor, 0)
    try:
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except OSError as error:
        say(f"{file} cannot be written ({error.strerror}); the shop starts without.")
    return descriptor


@contextmanager
def held(data: Path) -> Generator[bool]:
    """Yields whether no shop runs on the folder; none can start on it meanwhile."""
    with (data / _LOCK_FILE).open("a") as file:
        yield _is_locked(file.fileno())


def clear(data: Path) -> None:
    """Deletes the data of the shop, and nothing else that is in the folder."""
    _delete(data, _OWN_FILES)


def clear_stores(data: Path) -> None:
    """Deletes what a backup holds, and keeps the logs."""
    _delete(data, _STORES)


def copy_cookie_key(data: Path, target: Path) -> None:
    """Copies the key of the pages' cookies, where there is one, for this user alone."""
    if (data / _COOKIE_KEY_FILE).exists():
        write_whole(target / _COOKIE_KEY_FILE, kept_secret(data))


def kept_secret(data: Path) -> str:
    """The key that the pages sign their cookies with, made once: carts outlive a restart.

    :raises ConfigurationError: it can be neither read nor made.
    """
    file = data / _COOKIE_KEY_FILE
    try:
        found = file.read_text(encoding="ascii") if file.exists() else ""
        if len(found) >= _SECRET_BYTES:
            return found
        # None yet, or one that a crash left unfinished: nothing was ever signed with that.
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        write_whole(file, secret)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The file {file} cannot be used ({error}): make it readable and writable, "
            "or delete it."
        ) from error
    return secret


def write_state(data: Path, state: OpenShop) -> None:
    """Says in a file where everything is, for other programs: tests, the load test, scripts."""
    write_whole(data / STATE_FILE, state.model_dump_json(indent=2))


def read_state(data: Path) -> OpenShop | None:
    """Returns what that file says; None when there is none. A shop that was killed leaves its own
    behind.
    """
    try:
        return _state(data)
    except FileNotFoundError:
        return None


def running_services(data: Path) -> list[str]:
    """Returns the services of the shop that runs there; none when none does."""
    state = read_state(data)
    return [process.service for process in state.processes] if state else []


def url_of(data: Path, service: str) -> str | None:
    """Returns where the running shop has the first process of a service; None when it has none."""
    found = _state(data).of_service(service)
    return found[0].url if found else None


def forget_state(data: Path) -> None:
    """Removes that file."""
    (data / STATE_FILE).unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Writes a file whole or not at all, for this user alone."""
    temporary = file.with_name(f"{file.name}.new")
    descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def _state(data: Path) -> OpenShop:
    return OpenShop.model_validate_json((data / STATE_FILE).read_bytes())


def _delete(data: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for file in data.glob(pattern):
            file.unlink()


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int | None:
    """The parent of the shop that has the folder, as far as it has said so."""
    said = os.pread(descriptor, 20, 0)
    return int(said) if said.isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _taken(data: Path, holder: int | None, *, is_orphaned: bool) -> str:
    if is_orphaned:
        return (
            f"Processes of a shop that was killed (pid {holder}) still use the data in {data}: "
            "end them, or choose another --data folder."
        )
    which = "" if holder is None else f" (pid {holder})"
    return (
        f"Another shop{which} runs on the data in {data}: stop it, or choose another --data folder."
    )
