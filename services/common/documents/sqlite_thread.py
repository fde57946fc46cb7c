"""A SQLite connection with a thread of its own.

Why not aiosqlite: it queues each statement separately. So a task that is cancelled between two
statements leaves a transaction open, and the transactions of several tasks mix on one connection.
Here the queue takes whole functions, which run to their end even if their caller is cancelled. All
functions that wait share one transaction, so one flush to disk serves all concurrent writers (group
commit).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from services.common.documents.api import StoreUnavailable

T = TypeVar("T")

# Bounds how long a batch's first caller waits, and other processes for the write lock.
_MAX_BATCH = 64


@dataclass(slots=True)
class _Task(Generic[T]):
    """Work, and the future of its caller, which only the caller's loop settles.

    :ivar settle: what becomes of the future.
    """

    work: Callable[[sqlite3.Connection], T]
    future: asyncio.Future[T]
    settle: Callable[[], None] | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        """Runs the work. Only ``tell`` reports the outcome, after the commit.

        SQLite undoes a statement that fails by itself, so work that writes with one statement and
        then raises leaves nothing behind, and its batch needs no savepoints. What SQLite itself
        cannot do fails the whole batch.
        """
        try:
            result = self.work(connection)
        except sqlite3.Error:
            raise
        except Exception as error:
            self.fail(error)
        else:
            self.settle = partial(self.future.set_result, result)

    def fail(self, error: Exception) -> None:
        """Takes an error for the outcome."""
        self.settle = partial(self.future.set_exception, error)

    def tell(self) -> None:
        """Hands the outcome to the caller's loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.future.get_loop().call_soon_threadsafe(self._settle_unless_cancelled)

    def _settle_unless_cancelled(self) -> None:
        if self.settle is not None and not self.future.done():
            self.settle()


class ConnectionThread:
    """Runs functions on one connection, in batches that each are one transaction.

    :param connect: opens the connection. It is opened at first use, and again after it failed.
    :param begin: the statement that begins a transaction.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        begin: Literal["BEGIN", "BEGIN IMMEDIATE"],
    ) -> None:
        self._connect = connect
        self._begin = begin
        self._connection: sqlite3.Connection | None = None
        self._queue: queue.SimpleQueue[_Task[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._stopped: Future[None] = Future()
        # A daemon: a process that ends without closing loses nothing acknowledged, and must end.
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The function's result, once its transaction is committed.

        The function contains at most one statement that writes. If the caller is cancelled before
        the function has begun it never runs; afterwards it runs to its end.

        :raises StoreUnavailable: SQLite could not do it, or the thread is closed.
        """
        if self._closed:
            raise StoreUnavailable
        # Not `asyncio.wrap_future`: a second future, with a lock, would double what a read costs.
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Task(work, future))
        return await future

    async def close(self) -> None:
        """Finishes what is queued and closes the connection. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(asyncio.wrap_future(self._stopped))

    def _serve(self) -> None:
        while batch := self._next_batch():
            self._run(batch)
        self._disconnect()
        self._stopped.set_result(None)

    def _next_batch(self) -> list[_Task[Any]]:
        """Waits for work and takes what there is; empty when the thread is to end."""
        batch: list[_Task[Any]] = []
        while len(batch) < _MAX_BATCH:
            try:
                task = self._queue.get(block=not batch)
            except queue.Empty:
                break
            if task is None:
                if batch:
                    self._queue.put(None)  # for the next round; nothing is queued behind it
                break
            batch.append(task)
        return batch

    def _run(self, batch: list[_Task[Any]]) -> None:
        wanted = [task for task in batch if not task.future.cancelled()]
        if not wanted:
            return
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.execute(self._begin)
            for task in wanted:
                task.attempt(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # any: callers of a dead thread would wait for ever
            # A new connection is the one state that is certain to have no transaction open.
            self._disconnect()
            for task in wanted:
                unavailable = StoreUnavailable()
                unavailable.__cause__ = error
                task.fail(unavailable)
        for task in wanted:
            task.tell()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
