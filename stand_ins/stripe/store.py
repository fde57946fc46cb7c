"""The sandbox's books: one SQLite database, written by one thread, one transaction per request.

An effect and the answer stored under its idempotency key commit together, and a commit is on disk
(WAL, synchronous=FULL) before anything is answered: whatever moment a ``kill -9`` chooses, the two
agree afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from services.common.errors import ConfigurationError
from stand_ins.stripe.model import Dispute, PaymentIntent, Refund

KEY_LIFETIME_SECONDS = 24 * 3600.0  # docs.stripe.com/api/idempotent_requests
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE payment_intents (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL,
    created INTEGER NOT NULL, document TEXT NOT NULL
);
CREATE INDEX payment_intents_by_age ON payment_intents (created);
CREATE TABLE metadata (
    key TEXT, value TEXT, payment_intent TEXT, PRIMARY KEY (key, value, payment_intent)
) WITHOUT ROWID;
CREATE VIEW orders AS SELECT payment_intent, value AS id FROM metadata WHERE key = 'order_id';
CREATE TABLE refunds (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, payment_intent TEXT NOT NULL,
    amount INTEGER NOT NULL, document TEXT NOT NULL
);
CREATE INDEX refunds_of ON refunds (payment_intent);
CREATE TABLE answers (
    key TEXT PRIMARY KEY, path TEXT NOT NULL, fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL, request_id TEXT NOT NULL, created REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (created);
"""

# Of a later time than the rest: books that are older get it when they are opened.
_DISPUTES = """
CREATE TABLE IF NOT EXISTS disputes (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, payment_intent TEXT NOT NULL,
    created INTEGER NOT NULL, document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS disputes_of ON disputes (payment_intent);
CREATE INDEX IF NOT EXISTS disputes_by_age ON disputes (created);
"""

# What was given back: a refund that has failed gave nothing.
_REFUNDED = """COALESCE(SUM(amount) FILTER (WHERE json_extract(document, '$.then') IS NOT 'failed'
    OR json_extract(document, '$.then_at') > :now), 0)"""

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer under an idempotency key, and the request that it answered."""

    path: str
    fingerprint: str
    status: int
    body: str
    request_id: str


class Books:
    """Every query, inside the transaction that is under way."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock

    def add_intent(self, intent: PaymentIntent) -> None:
        self._connection.execute(
            "INSERT INTO payment_intents (id, created, document) VALUES (?, ?, ?)",
            (intent.id, intent.created, _dump(intent)),
        )
        self._add_metadata(intent)

    def replace_metadata(self, old: PaymentIntent, new: PaymentIntent) -> None:
        """Replaces an intent by one with other metadata, by which it is found from then on."""
        self._connection.executemany(
            "DELETE FROM metadata WHERE key = ? AND value = ? AND payment_intent = ?",
            [(key, value, old.id) for key, value in old.metadata.items()],
        )
        self._add_metadata(new)
        self.replace_intent(new)

    def replace_intent(self, intent: PaymentIntent) -> None:
        self._connection.execute(
            "UPDATE payment_intents SET document = ? WHERE id = ?", (_dump(intent), intent.id)
        )

    def intent(self, identifier: str) -> PaymentIntent | None:
        found = self._documents(
            "SELECT document FROM payment_intents WHERE id = :id", {"id": identifier}
        )
        return PaymentIntent(**found[0]) if found else None

    def intents(self, limit: int, created: range, after: str | None) -> list[PaymentIntent]:
        """Newest first, created within those seconds, beginning behind the one called `after`."""
        end = (created.stop, 0)
        if after is not None:
            row = self._connection.execute(
                "SELECT created, seq FROM payment_intents WHERE id = ?", (after,)
            ).fetchone()
            end = min(end, row)
        # Goes along the index from where the page begins: the last page costs what the first does.
        found = self._documents(
            """SELECT document FROM payment_intents
            WHERE created >= :start AND (created, seq) < (:before, :before_seq)
            ORDER BY created DESC, seq DESC LIMIT :limit""",
            {"start": created.start, "before": end[0], "before_seq": end[1], "limit": limit},
        )
        return [PaymentIntent(**document) for document in found]

    def intents_with(self, key: str, value: str, limit: int) -> list[PaymentIntent]:
        """Those whose metadata has the pair, newest first."""
        found = self._documents(
            """SELECT document FROM payment_intents WHERE id IN
            (SELECT payment_intent FROM metadata WHERE key = :key AND value = :value)
            ORDER BY seq DESC LIMIT :limit""",
            {"key": key, "value": value, "limit": limit},
        )
        return [PaymentIntent(**document) for document in found]

    def add_refund(self, refund: Refund) -> None:
        self._connection.execute(
            "INSERT INTO refunds (id, payment_intent, amount, document) VALUES (?, ?, ?, ?)",
            (refund.id, refund.payment_intent, refund.amount, _dump(refund)),
        )

    def refund(self, identifier: str) -> Refund | None:
        found = self._documents("SELECT document FROM refunds WHERE id = :id", {"id": identifier})
        return Refund(**found[0]).at(self._now()) if found else None

    def refunds(
        self, limit: int, *, of: str | None = None, after: str | None = None
    ) -> list[Refund]:
        """Newest first, of one PaymentIntent or of all, beginning behind the one called `after`."""
        found = self._documents(
            """SELECT document FROM refunds
            WHERE (:of IS NULL OR payment_intent = :of)
            AND (:after IS NULL OR seq < (SELECT seq FROM refunds WHERE id = :after))
            ORDER BY seq DESC LIMIT :limit""",
            {"of": of, "after": after, "limit": limit},
        )
        return [Refund(**document).at(self._now()) for document in found]

    def refunded(self, intent_id: str) -> int:
        """How much of a payment was given back so far."""
        row = self._connection.execute(
            f"SELECT {_REFUNDED} FROM refunds WHERE payment_intent = :of",  # noqa: S608  from above
            {"of": intent_id, "now": self._now()},
        ).fetchone()
        return row[0]

    def add_dispute(self, dispute: Dispute) -> None:
        self._connection.execute(
            "INSERT INTO disputes (id, payment_intent, created, document) VALUES (?, ?, ?, ?)",
            (dispute.id, dispute.payment_intent, dispute.created, _dump(dispute)),
        )

    def dispute(self, identifier: str) -> Dispute | None:
        found = self._documents("SELECT document FROM disputes WHERE id = :id", {"id": identifier})
        return Dispute(**found[0]) if found else None

    def disputes(
        self, limit: int, created: range, *, of: str | None = None, after: str | None = None
    ) -> list[Dispute]:
        """Newest first, of one PaymentIntent or of all, created within those seconds, beginning
        behind the one called `after`.
        """
        found = self._documents(
            """SELECT document FROM disputes
            WHERE (:of IS NULL OR payment_intent = :of)
            AND created >= :start AND created < :stop
            AND (:after IS NULL OR seq < (SELECT seq FROM disputes WHERE id = :after))
            ORDER BY seq DESC LIMIT :limit""",
            {
                "of": of,
                "after": after,
                "start": created.start,
                "stop": created.stop,
                "limit": limit,
            },
        )
        return [Dispute(**document) for document in found]

    def ledger(
        self,
        order_id: str | None,
        limit: int,
        *,
        intents_after: str | None = None,
        refunds_after: str | None = None,
    ) -> dict[str, Any]:
        """The newest payments and refunds, of one order or of all, each list beginning behind the
        one called `..._after`, and totals over all of them.
        """
        asked = {"order_id": order_id, "limit": limit}
        intents = self._documents(
            """SELECT document FROM payment_intents WHERE (:order_id IS NULL
            OR id IN (SELECT payment_intent FROM orders WHERE orders.id = :order_id))
            AND (:after IS NULL OR seq < (SELECT seq FROM payment_intents WHERE id = :after))
            ORDER BY seq DESC LIMIT :limit""",
            {**asked, "after": intents_after},
        )
        refunds = self._documents(
            """SELECT document FROM refunds WHERE (:order_id IS NULL
            OR payment_intent IN (SELECT payment_intent FROM orders WHERE orders.id = :order_id))
            AND (:after IS NULL OR seq < (SELECT seq FROM refunds WHERE id = :after))
            ORDER BY seq DESC LIMIT :limit""",
            {**asked, "after": refunds_after},
        )
        count, is_open, captured = self._connection.execute(
            """SELECT COUNT(*), COALESCE(SUM(json_extract(document, '$.amount_capturable')), 0),
            COALESCE(SUM(json_extract(document, '$.amount_received')), 0)
            FROM payment_intents WHERE :order_id IS NULL
            OR id IN (SELECT payment_intent FROM orders WHERE orders.id = :order_id)""",
            asked,
        ).fetchone()
        refund_count, refunded = self._connection.execute(
            f"""SELECT COUNT(*), {_REFUNDED} FROM refunds WHERE :order_id IS NULL
            OR payment_intent IN (SELECT payment_intent FROM orders WHERE orders.id = :order_id)""",  # noqa: S608  from above
            {**asked, "now": self._now()},
        ).fetchone()
        return {
            "payment_intents": [PaymentIntent(**document).json() for document in intents],
            "refunds": [Refund(**document).at(self._now()).json() for document in refunds],
            "totals": {
                "authorized_open_cents": is_open,
                "captured_cents": captured,
                "refunded_cents": refunded,
                "payment_intents": count,
                "refunds": refund_count,
            },
        }

    def answer(self, key: str) -> StoredAnswer | None:
        """What was answered under an idempotency key, unless that is too long ago."""
        row = self._connection.execute(
            """SELECT path, fingerprint, status, body, request_id FROM answers
            WHERE key = ? AND created > ?""",
            (key, self._clock() - KEY_LIFETIME_SECONDS),
        ).fetchone()
        return StoredAnswer(*row) if row else None

    def remember(self, key: str, answer: StoredAnswer) -> None:
        """Stores an answer under its key, and forgets keys that have expired."""
        now = self._clock()
        self._connection.execute(
            "DELETE FROM answers WHERE created <= ?", (now - KEY_LIFETIME_SECONDS,)
        )
        self._connection.execute(
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, *dataclasses.astuple(answer), now),
        )

    def check(self) -> None:
        """:raises sqlite3.Error: when the books cannot be read."""
        self._connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()

    def clear(self) -> None:
        for table in ("payment_intents", "metadata", "refunds", "disputes", "answers"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608  names from above

    def _add_metadata(self, intent: PaymentIntent) -> None:
        self._connection.executemany(
            "INSERT INTO metadata VALUES (?, ?, ?)",
            [(key, value, intent.id) for key, value in intent.metadata.items()],
        )

    def _now(self) -> int:
        return int(self._clock())

    def _documents(self, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in self._connection.execute(sql, values)]


class Store:
    """Runs work on the books in its one thread, each piece in a transaction of its own."""

    def __init__(self, directory: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="books")

    async def open(self) -> None:
        """:raises ConfigurationError: the directory cannot be used, or another process uses it."""
        self._connection = await self._in_thread(self._connect)

    async def run(self, work: Callable[[Books], Result]) -> Result:
        """What `work` returns, once it is committed; when it raises, nothing has happened."""
        return await self._in_thread(lambda: self._transact(work))

    async def copy(self) -> bytes:
        """The books as a SQLite file, all of one moment between two requests."""
        return await self._in_thread(self._connection.serialize)

    async def close(self) -> None:
        await self._in_thread(self._connection.close)
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _transact(self, work: Callable[[Books], Result]) -> Result:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(Books(connection, self._clock))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _connect(self) -> sqlite3.Connection:
        try:
            if self._directory is None:
                return self._prepared("")
            self._directory.mkdir(parents=True, exist_ok=True)
            return self._prepared(str(self._directory / "stripe_sandbox.db"))
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"The sandbox cannot keep its books in SANDBOX_DATA_DIR={self._directory}: {error}."
            ) from error

    def _prepared(self, name: str) -> sqlite3.Connection:
        # An empty name is a private temporary database: in memory while it is small, then in a
        # file without a name (sqlite.org/inmemorydb.html#temp_db).
        connection = sqlite3.connect(name, timeout=2.0, isolation_level=None)
        if name:
            # Requests in flight are known to one process only, so no other may use the file.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            connection.close()
            raise ConfigurationError(f"{name} is of another version of the sandbox; delete it.")
        connection.executescript(_DISPUTES)
        return connection


def _dump(value: PaymentIntent | Refund | Dispute) -> str:
    return json.dumps(dataclasses.asdict(value))
