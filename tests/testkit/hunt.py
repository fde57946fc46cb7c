"""The hunt for secrets: nothing that the shop emits for those who run it tells one, or whose order
it was. Not hunted are answers to customers, mails, and the stores, whose purpose is to hold them.

Each shop of the tests is searched when it stops (its logs, what it printed, its metrics, and the
first span of each process in each trace that is kept), and each span and record of calls when a
test gets it. What is emitted in the process of the tests is searched as it comes (see
tests/conftest.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import Span

from services.common.observing.metrics import Metrics
from services.local.plan import SECRETS

# Each but the last begins with fixed characters: a search for these is quick.
KINDS: Mapping[str, re.Pattern[bytes]] = {
    # Stripe's library names its own support.
    "an e-mail address": re.compile(rb"(?<!let us know at support)@[A-Za-z0-9-]+\.[A-Za-z]{2}"),
    "an e-mail address in a URL": re.compile(rb"%40[A-Za-z0-9-]+\.[A-Za-z]{2}"),
    "a JSON Web Token": re.compile(rb"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}"),
    "a refresh token": re.compile(rb"ses_[a-z2-7]{24}\.[\w-]{43}"),
    "a device token": re.compile(rb"dev_[0-9a-f]{32}\.[0-9]+\."),
    "a key of Stripe": re.compile(rb"sk_(?:test|live)_\w{4}"),
    "a restricted key of Stripe": re.compile(rb"rk_(?:test|live)_\w{4}"),
    "a client secret of Stripe": re.compile(rb"_secret_[0-9a-f]{12}"),
    "a payment method": re.compile(rb"pm_card_[A-Za-z]"),
    "a card number": re.compile(rb"4242[ -]?4242[ -]?4242"),
    "the number of a declining card": re.compile(rb"4000[ -]?0000[ -]?0000"),
    "a password": re.compile(rb"correct.{1,3}horse"),
    "a password's hash": re.compile(rb"\$argon2"),
    "a private key": re.compile(rb"PRIVATE KEY"),
    # Of 256 bits: the code of a mailed link, the key of the pages' cookies. A key's id is as long,
    # and public.
    "a random secret": re.compile(
        rb"(?<!\"kid\":\")(?<!'kid': ')(?<![\w-])"
        rb"(?=[\w-]{,42}[A-Z])(?=[\w-]{,42}[a-z])(?=[\w-]{,42}[0-9])[\w-]{43}(?![\w-])"
    ),
}
_SHOWN_BYTES = 60


class SecretTold(AssertionError):
    """The shop has told a secret; the message says which kind, where, and what is around it."""


def findings(emitted: bytes, where: str, planted: Iterable[bytes] = ()) -> Iterator[str]:
    """What of `emitted` should not be there: the first of each kind.

    :param planted: secrets of this run, whatever they look like.
    """
    for kind, pattern in KINDS.items():
        found = pattern.search(emitted)
        if found is not None:
            yield _described(kind, where, emitted, found.start())
    for secret in planted:
        position = emitted.find(secret)
        if position >= 0:
            yield _described("a secret of this run", where, emitted, position)


def check(emitted: bytes, where: str) -> None:
    """Returns when nothing is found.

    :raises SecretTold: something is.
    """
    if found := list(findings(emitted, where)):
        raise SecretTold("\n".join(found))


def findings_in_files(
    files: Iterable[Path], environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The same for files.

    :param environment: whose secrets are hunted, too.
    """
    planted = [
        value.encode()
        for name, value in (environment or {}).items()
        if name in SECRETS and len(value) > 3
    ]
    for file in files:
        yield from findings(file.read_bytes(), str(file), planted)


def _described(kind: str, where: str, emitted: bytes, position: int) -> str:
    around = emitted[max(0, position - _SHOWN_BYTES) : position + _SHOWN_BYTES]
    return f"{kind} in {where}: …{around.decode(errors='replace')}…"


class Hunter(logging.Handler):
    """Searches what is emitted in this process: as a processor of structlog, as a handler of
    logging, and in spans that end and metrics that are read, once `watch` was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: list[str] = []

    def __call__(
        self, _: object, __: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        self._told += findings(repr(dict(event)).encode(), "the log")
        return event

    def emit(self, record: logging.LogRecord) -> None:
        self._told += findings(record.getMessage().encode(), f"the log of {record.name}")

    def watch(self) -> None:
        """Searches all spans and metrics from here on."""
        Span.end = self._searched(Span.end, self._search_span)
        Metrics.exposition = self._searched(Metrics.exposition, self._search_metrics)
        Metrics.openmetrics = self._searched(Metrics.openmetrics, self._search_metrics)

    def take(self) -> list[str]:
        """Returns what was found since the last time."""
        taken, self._told = self._told, []
        return taken

    def _searched(
        self, emit: Callable[..., Any], search: Callable[[Any, Any], None]
    ) -> Callable[..., Any]:
        def searched(emitter: Any, *args: Any, **kwargs: Any) -> Any:
            result = emit(emitter, *args, **kwargs)
            search(emitter, result)
            return result

        return searched

    def _search_span(self, span: Span, _: object) -> None:
        events = [(event.name, dict(event.attributes or {})) for event in span.events]
        told = (span.name, dict(span.attributes or {}), events, span.status.description)
        self._told += findings(repr(told).encode(), f"the span {span.name}")

    def _search_metrics(self, _: Metrics, text: bytes) -> None:
        self._told += findings(text, "the metrics")
