"""The parent of all local processes: starts them, tells where they are, restarts those that die,
and ends them all.

On Linux it imports everything once and forks, which makes the start quick and lets the processes
share memory; elsewhere forking after imports is not safe, so each child is a new interpreter.
Children hold the read end of a pipe that only the parent keeps open for writing: when the parent
dies, however it dies, they see its end and stop.

The standard library's forkserver forks as well, but from a process of its own, beside a parent that
shares no memory with the children, and a resource tracker. Measured as `make bench-start` does, the
shop then takes 330 MiB instead of 250, and about 290 if the parent loads nothing but the topology:
more than the limit of 260.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from services.common.backoff import Backoff
from services.common.serving.host import Host
from services.common.serving.process import EXIT_CONFIGURATION, PARENT_FD, READY_FD
from services.common.settings import ProcessSettings, read_settings
from services.common.topology import load_topology
from services.local import data
from services.local.console import ERRORS, Console
from services.local.plan import (
    Options,
    PlannedProcess,
    check_host,
    faults_on,
    inherited_by,
    openness,
    plan_processes,
)
from services.local.ports import Ports
from services.local.programs import module_of, run_program

_START_SECONDS = 60.0
_STOP_SECONDS = 4.0
_DEATHS_AT_START = 3
_LONG_ENOUGH_SECONDS = 2.0
_RESTARTS = Backoff(first_seconds=0.1, longest_seconds=5.0)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)

StartMethod = Literal["fork", "spawn"]


def default_start_method() -> StartMethod:
    """How children are started on this system."""
    return "fork" if sys.platform == "linux" else "spawn"


def run_shop(options: Options, start_method: StartMethod, *, fresh: bool) -> int:
    """Runs the shop until Ctrl-C or SIGTERM. Returns the exit status.

    :raises ConfigurationError: it cannot start as asked.
    """
    began = time.monotonic()
    console = Console()
    check_host(options.host)
    data.prepare(options.data, console.say)
    lock = data.lock(options.data, console.say)
    if fresh:
        data.clear(options.data)
    ports = Ports(options.ports, any_free=options.free_ports)
    try:
        planned = plan_processes(load_topology(), options, ports, os.environ)
        said = openness(options.host, os.environ)
        if said is not None:
            console.say(said)
        for line in faults_on(planned, os.environ):
            console.say(line)
        return _Runner(planned, start_method, options.data, began, console).run()
    finally:
        ports.close()
        data.forget_state(options.data)
        os.close(lock)


@dataclass(slots=True)
class _Child:
    planned: PlannedProcess
    pid: int = 0
    started: float = 0.0
    is_ready: bool = False
    restart_at: float | None = None
    quick_deaths: int = 0


class _Runner:
    def __init__(
        self,
        planned: Sequence[PlannedProcess],
        start_method: StartMethod,
        folder: Path,
        began: float,
        console: Console,
    ) -> None:
        self._children = [_Child(process) for process in planned]
        self._start_method = start_method
        self._folder = folder
        self._began = began
        self._console = console
        self._is_state_written = True
        self._is_open = False
        self._is_stopping = False
        self._selector = selectors.DefaultSelector()
        # Nothing is ever written to it: the children wait for its end.
        self._parent_read, self._parent_write = os.pipe()
        os.set_inheritable(self._parent_read, True)
        # Signals become readable here, so that one select waits for everything.
        self._signal_read, self._signal_write = os.pipe()
        os.set_blocking(self._signal_write, False)
        self._selector.register(self._signal_read, selectors.EVENT_READ)

    def run(self) -> int:
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)
        if self._start_method == "fork":
            _import_all([child.planned.service for child in self._children])
        try:
            for child in self._children:
                self._start(child)
            return self._watch()
        finally:
            self._stop_all()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._is_stopping = True

    def _watch(self) -> int:
        while not self._is_stopping:
            self._wait(self._pause_seconds())
            status = self._reap()
            if status is not None:
                return status
            for child in self._children:
                if child.restart_at is not None and child.restart_at <= time.monotonic():
                    self._start(child)
            if not self._is_open and all(child.is_ready for child in self._children):
                self._is_open = True
                self._tell()
            if not self._is_state_written:
                self._write_state()
            if not self._is_open and time.monotonic() - self._began > _START_SECONDS:
                late = ", ".join(c.planned.instance for c in self._children if not c.is_ready)
                self._console.say(
                    f"Not ready after {_START_SECONDS:.0f} s: {late}. See {self._folder / 'logs'}.",
                    ERRORS,
                )
                return 1
        return 0

    def _wait(self, seconds: float) -> None:
        """Waits so long at most for a signal, or for a child to be ready or to end."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                os.read(self._signal_read, 4096)
            else:
                self._read_ready(key.fd, key.data)

    def _pause_seconds(self) -> float:
        dues = [child.restart_at for child in self._children if child.restart_at is not None]
        return max(0.0, min((due - time.monotonic() for due in dues), default=1.0))

    def _start(self, child: _Child) -> None:
        ready_read, ready_write = os.pipe()
        os.set_inheritable(ready_write, True)
        handed_down = {READY_FD: str(ready_write), PARENT_FD: str(self._parent_read)}
        inherited = inherited_by(child.planned.service, os.environ)
        environment = {**inherited, **child.planned.environment, **handed_down}
        if self._start_method == "fork":
            # A signal for the child waits until it has let go of the parent's handlers, which would
            # swallow it.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = os.fork()
            if pid == 0:
                self._be_child(child.planned.service, environment, ready_read)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        else:
            pid = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", "services", child.planned.service],
                env=environment,
                pass_fds=(ready_write, self._parent_read),
                start_new_session=True,
            ).pid
        os.close(ready_write)
        child.pid = pid
        child.started = time.monotonic()
        child.is_ready = False
        child.restart_at = None
        self._selector.register(ready_read, selectors.EVENT_READ, child)

    def _be_child(self, service: str, environment: dict[str, str], ready_read: int) -> NoReturn:
        status = 1
        try:
            os.setsid()  # Ctrl-C goes to the parent alone, which then stops everyone in order
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            for descriptor in (
                ready_read,
                self._parent_write,
                self._signal_read,
                self._signal_write,
            ):
                os.close(descriptor)
            self._selector.close()
            os.environ.clear()
            os.environ.update(environment)
            status = run_program(service)
        except BaseException as error:  # the last frame of this process: all must be seen
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _read_ready(self, descriptor: int, child: _Child) -> None:
        said = os.read(descriptor, 16)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        if said:
            child.is_ready = True
            if self._is_open:
                self._console.say(f"{child.planned.instance} is back (pid {child.pid})")
                self._write_state()

    def _reap(self) -> int | None:
        """Collects the dead. Returns the shop's exit status when it cannot go on."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            for child in self._children:
                if child.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    if self._is_fatal(child, code):
                        return code if code > 0 else 1
                    self._restart_later(child, code)

    def _is_fatal(self, child: _Child, code: int) -> bool:
        """Whether the shop gives up: only while it starts, and not for a single accident."""
        if self._is_open:
            return False
        return code == EXIT_CONFIGURATION or child.quick_deaths >= _DEATHS_AT_START

    def _restart_later(self, child: _Child, code: int) -> None:
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with status {code}"
        )
        lived_seconds = time.monotonic() - child.started
        child.quick_deaths = 0 if lived_seconds > _LONG_ENOUGH_SECONDS else child.quick_deaths + 1
        pause_seconds = _RESTARTS.pause_seconds(child.quick_deaths + 1)
        self._console.say(f"{child.planned.instance} (pid {child.pid}) {how}; restarting")
        child.pid = 0
        child.is_ready = False
        child.restart_at = time.monotonic() + pause_seconds

    def _tell(self) -> None:
        for child in self._children:
            planned = child.planned
            also = "" if planned.internal_port is None else f", internal: {planned.internal_url}"
            self._console.say(f"  {planned.instance:<16} {planned.url:<24} pid {child.pid}{also}")
        seconds = time.monotonic() - self._began
        shop = next(
            (c.planned.url for c in self._children if c.planned.service == "frontend"), None
        )
        where = f"The shop is open: {shop}" if shop else "Ready"
        self._console.say(f"{where}  (after {seconds:.1f} s; Ctrl-C stops it)")
        self._write_state()

    def _write_state(self) -> None:
        """Writes where everything is. Where there is no room for it now, it is tried again."""
        state = data.OpenShop(
            parent_pid=os.getpid(),
            processes=tuple(
                data.Process(
                    service=child.planned.service,
                    instance=child.planned.instance,
                    pid=child.pid,
                    url=child.planned.url,
                    internal_url=child.planned.internal_url,
                    grpc_port=child.planned.grpc_port,
                )
                for child in self._children
            ),
        )
        try:
            data.write_state(self._folder, state)
        except OSError as error:
            if self._is_state_written:
                self._console.say(
                    f"{self._folder / data.STATE_FILE} cannot be written ({error.strerror}); "
                    "the shop goes on.",
                    ERRORS,
                )
            self._is_state_written = False
        else:
            self._is_state_written = True

    def _stop_all(self) -> None:
        alive = {child.pid: child for child in self._children if child.pid}
        for pid in alive:
            _send(pid, signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while alive and time.monotonic() < until:
            self._wait(0.05)
            for pid in list(alive):
                if _has_ended(pid):
                    del alive[pid]
        for pid, child in alive.items():
            self._console.say(
                f"{child.planned.instance} (pid {pid}) does not stop; killing it", ERRORS
            )
            _send(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self._parent_write)


def _import_all(services: Sequence[str]) -> None:
    """Loads every service's code before the fork, once for all, and keeps the garbage collector
    from unsharing it.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # no gRPC object lives before the fork
    # Stripe's SDK loads `requests` where it is found, and FastAPI pydantic's former API: 4 MiB. The
    # shop asks Stripe over aiohttp. To Python, None stands for a module that cannot be imported.
    for unused in ("requests", "pydantic.v1"):
        sys.modules.setdefault(unused, None)  # pyright: ignore[reportArgumentType]
    for service in dict.fromkeys(services):
        importlib.import_module(module_of(service))
    importlib.import_module("uvicorn.lifespan.off")  # else uvicorn would load it in each child
    # A rehearsal, so that what pydantic, FastAPI and OpenTelemetry build at first use is shared.
    # The frontend has no gRPC server: gRPC must not have begun before a fork.
    Host("frontend", load_topology(), read_settings(ProcessSettings), AsyncExitStack()).app()
    if sys.version_info < (3, 12):
        # The cache of attribute look-ups counts references to names all over the heap: each entry
        # that a child replaces would unshare the page of the name that was in it. Later
        # interpreters do not count those references.
        sys._clear_type_cache()  # pyright: ignore[reportPrivateUsage]
    gc.freeze()


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
