"""One request on its way to its answer: who asks, what fails on purpose, what was answered before.

The order is Stripe's (docs.stripe.com/api/idempotent_requests): an answer is stored once a command
has begun to run, whether it succeeded or not; what is refused before that (401, 429, wrong
parameters, 409) is not stored, so that the same key can be sent again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass

from stand_ins.stripe.commands import Command, ReadCommand, with_declined_card
from stand_ins.stripe.errors import (
    ApiError,
    failure,
    invalid,
    key_in_use,
    key_of_other_request,
    rate_limited,
    unauthorized,
)
from stand_ins.stripe.faults import RequestFaults, SandboxFaultInjector
from stand_ins.stripe.model import new_id
from stand_ins.stripe.params import Params
from stand_ins.stripe.store import Books, Store, StoredAnswer

API_VERSION = "2026-10-28.endive"
MAX_KEY_LENGTH = 255

_API_KEY = re.compile(r"sk_test_[A-Za-z0-9_]+")
_VERSION = re.compile(r"20\d\d-\d\d-\d\d(\.[a-z]+)?")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request to ``/v1``. `encoded` is its form: the body of a POST, the query of a GET."""

    method: str
    path: str
    encoded: bytes
    authorization: str | None
    idempotency_key: str | None
    version: str | None
    read: ReadCommand
    identifier: str


@dataclass(frozen=True, slots=True)
class ApiReply:
    """What to answer, or, when `lost`, what the caller never gets to see."""

    status: int
    body: str
    headers: dict[str, str]
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _BareReply:
    """A reply before it has headers. `original` is the request that ran, when this replays it."""

    status: int
    body: str
    outcome: str
    should_retry: bool | None = None
    original: str | None = None

    @classmethod
    def of(cls, error: ApiError, request_id: str) -> _BareReply:
        body = json.dumps(error.body(request_id))
        return cls(error.status, body, error.outcome, error.should_retry)


class Sandbox:
    """Answers requests to ``/v1`` one way or the other, and counts how."""

    def __init__(
        self, store: Store, injector: SandboxFaultInjector, clock: Callable[[], float] = time.time
    ) -> None:
        self.outcomes = Counter[str]()
        self._store = store
        self._injector = injector
        self._clock = clock
        self._keys_in_flight: set[str] = set()

    async def answer(self, call: ApiCall) -> ApiReply | None:
        """Never raises: an error is an answer too. None is for a caller who waits in vain; nothing
        has happened then.
        """
        request_id = new_id("req")
        injected = self._injector.draw()
        if injected.timed_out:
            self.outcomes["timeout"] += 1
            return None
        try:
            answer = await self._run(call, request_id, injected)
        except ApiError as error:
            answer = _BareReply.of(error, request_id)
        except sqlite3.Error:
            log.exception("The books cannot be written")
            answer = _BareReply.of(failure(503, should_retry=True), request_id)
        self.outcomes["lost_reply" if injected.lost_reply else answer.outcome] += 1
        return ApiReply(
            answer.status, answer.body, self._headers(call, request_id, answer), injected.lost_reply
        )

    async def _run(self, call: ApiCall, request_id: str, injected: RequestFaults) -> _BareReply:
        _authenticate(call.authorization)
        if call.version is not None and not _VERSION.fullmatch(call.version):
            raise invalid(f"Invalid Stripe API version: {call.version}")
        if injected.rate_limited:
            raise rate_limited()
        params = Params(call.encoded)
        if call.method != "POST" or call.idempotency_key is None:
            command = _read(call, params, injected)
            await _inject(injected)
            return await self._execute(command, request_id, injected, None)
        key = call.idempotency_key
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise invalid(f"Idempotency keys have 1 to {MAX_KEY_LENGTH} characters.")
        with self._claimed(key):
            fingerprint = params.fingerprint()
            stored = await self._store.run(lambda books: books.answer(key))
            if stored is not None:
                return _replay(key, call.path, fingerprint, stored)
            command = _read(call, params, injected)
            await _inject(injected)

            def remember(books: Books, answer: _BareReply) -> None:
                books.remember(
                    key,
                    StoredAnswer(call.path, fingerprint, answer.status, answer.body, request_id),
                )

            return await self._execute(command, request_id, injected, remember)

    async def _execute(
        self,
        command: Command,
        request_id: str,
        injected: RequestFaults,
        remember: Callable[[Books, _BareReply], None] | None,
    ) -> _BareReply:
        """The effect and the memory of its answer, in one transaction."""

        def work(books: Books) -> _BareReply:
            try:
                body = command.run(books, int(self._clock()))
                answer = _BareReply(200, json.dumps(body), "succeeded")
            except ApiError as error:
                answer = _BareReply.of(error, request_id)
            if remember is not None:
                if injected.stored_failure:
                    answer = _BareReply.of(failure(500, should_retry=False), request_id)
                remember(books, answer)
            return answer

        return await self._store.run(work)

    @contextlib.contextmanager
    def _claimed(self, key: str) -> Generator[None]:
        if key in self._keys_in_flight:
            raise key_in_use(key)
        self._keys_in_flight.add(key)
        try:
            yield
        finally:
            self._keys_in_flight.remove(key)

    def _headers(self, call: ApiCall, request_id: str, answer: _BareReply) -> dict[str, str]:
        accepted = call.version is not None and _VERSION.fullmatch(call.version)
        headers = {
            "Cache-Control": "no-cache, no-store",
            "Request-Id": request_id,
            "Stripe-Version": call.version if accepted and call.version else API_VERSION,
        }
        if call.method == "POST" and call.idempotency_key is not None:
            headers["Idempotency-Key"] = call.idempotency_key
            headers["Original-Request"] = answer.original or request_id
        if answer.original is not None:
            headers["Idempotent-Replayed"] = "true"
        if answer.should_retry is not None:
            headers["Stripe-Should-Retry"] = str(answer.should_retry).lower()
        return headers


def _read(call: ApiCall, params: Params, injected: RequestFaults) -> Command:
    command = call.read(params, call.identifier)
    return with_declined_card(command) if injected.declined else command


async def _inject(injected: RequestFaults) -> None:
    """What goes wrong before the effect."""
    if injected.delay_seconds:
        await asyncio.sleep(injected.delay_seconds)
    if injected.failure_status is not None:
        raise failure(injected.failure_status, should_retry=True)


def _replay(key: str, path: str, fingerprint: str, stored: StoredAnswer) -> _BareReply:
    advice = f"Try using a key other than '{key}' if you meant to execute a different request."
    if stored.path != path:
        raise key_of_other_request(
            "Keys for idempotent requests can only be used for the same endpoint they were first "
            f"used for ('{path}' vs '{stored.path}'). {advice}"
        )
    if stored.fingerprint != fingerprint:
        raise key_of_other_request(
            "Keys for idempotent requests can only be used with the same parameters they were "
            f"first used with. {advice}"
        )
    return _BareReply(
        stored.status, stored.body, "replayed", should_retry=False, original=stored.request_id
    )


def _authenticate(authorization: str | None) -> None:
    """Any secret test key, as ``Bearer`` or as the user name of ``Basic``; all have one account."""
    scheme, _, credentials = (authorization or "").partition(" ")
    match scheme.lower():
        case "bearer":
            key = credentials.strip()
        case "basic":
            key = _user_name(credentials)
        case _:
            raise unauthorized(
                "You did not provide an API key. You need to provide your API key in the "
                "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer "
                "YOUR_SECRET_KEY')."
            )
    if not _API_KEY.fullmatch(key):
        shown = f"{key[:8]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * 8
        raise unauthorized(f"Invalid API Key provided: {shown}")


def _user_name(credentials: str) -> str:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[0]
