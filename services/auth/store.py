"""Every query of the auth service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeVar

from services.auth.model.attempts import (
    FAILURES_WINDOW_MS,
    LoginAttempts,
    LoginFailures,
    attempted,
    attempts_id,
    failures_id,
)
from services.auth.model.devices import DeviceKey, new_key
from services.auth.model.expiry import EXPIRED
from services.auth.model.keys import BY_GENERATION, SigningKey
from services.auth.model.links import (
    Link,
    MailCount,
    MailRequest,
    MailTimes,
    asked_again,
    times_id,
)
from services.auth.model.sessions import Session
from services.auth.model.sources import Source
from services.common.documents import AlreadyExists, Documents, RevisionConflict, Stored
from services.common.documents.typed import DocumentModel

Expiring = TypeVar("Expiring", bound=DocumentModel)

_PAGE = 200


class KeyStore:
    """The signing keys."""

    def __init__(self, keys: Documents[SigningKey]) -> None:
        self._keys = keys

    async def all(self) -> list[Stored[SigningKey]]:
        """All keys, by generation."""
        return [stored async for stored in _each(self._keys, BY_GENERATION, None)]

    async def add(self, key: SigningKey) -> bool:
        """Stores a key, unless another process was faster with that generation: False."""
        try:
            await self._keys.insert(key)
        except AlreadyExists:
            return False
        return True

    async def remove(self, stored: Stored[SigningKey]) -> None:
        """Deletes a key."""
        await _removed(self._keys, stored)


class DeviceKeyStore:
    """The one key that signs device tokens."""

    def __init__(self, keys: Documents[DeviceKey]) -> None:
        self._keys = keys

    async def get_or_make(self) -> DeviceKey:
        """The key, the same for all processes."""
        key = new_key()
        while True:
            stored = await self._keys.get(key.id)
            if stored is not None:
                return stored.value
            with suppress(AlreadyExists):  # another process was faster
                await self._keys.insert(key)


class SessionStore:
    """The sessions."""

    def __init__(self, sessions: Documents[Session]) -> None:
        self._sessions = sessions

    async def add(self, session: Session) -> None:
        """Stores a new session."""
        await self._sessions.insert(session)

    async def get(self, session_id: str) -> Stored[Session] | None:
        """One session."""
        return await self._sessions.get(session_id)

    async def save(self, stored: Stored[Session], session: Session) -> bool:
        """Writes a session; False when somebody else has written or ended it since it was read."""
        try:
            await self._sessions.replace(stored, session)
        except RevisionConflict:
            return False
        return True

    async def remove(self, session_id: str) -> None:
        """Ends a session, whatever anybody else does to it."""
        await _removed_by_id(self._sessions, session_id)

    async def sweep(self, now_ms: int) -> None:
        """Deletes the expired ones."""
        await _sweep(self._sessions, now_ms)


class AttemptStore:
    """The attempts to log in, by source and e-mail address, and the failures by network."""

    def __init__(
        self, attempts: Documents[LoginAttempts], failures: Documents[LoginFailures]
    ) -> None:
        self._attempts = attempts
        self._failures = failures

    async def get(self, source: Source, email: str) -> LoginAttempts | None:
        """The attempts of one source with one address."""
        stored = await self._attempts.get(attempts_id(source, email))
        return stored.value if stored else None

    async def count(self, source: Source, email: str, now_ms: int) -> None:
        """Counts one more attempt; many at once get no more tries than one after the other.

        :raises ShopError: THROTTLED.
        """
        while True:
            stored = await self._attempts.get(attempts_id(source, email))
            value = attempted(stored.value if stored else None, source, email, now_ms)
            try:
                if stored is None:
                    await self._attempts.insert(value)
                else:
                    await self._attempts.replace(stored, value)
            except (AlreadyExists, RevisionConflict):
                continue  # another attempt was faster, and after a few of those all are refused
            return

    async def forget(self, source: Source, email: str) -> None:
        """Starts over with a source and an address."""
        while (stored := await self._attempts.get(attempts_id(source, email))) is not None:
            if await _removed(self._attempts, stored):
                return

    async def failures(self, network: str, now_ms: int) -> int:
        """How many wrong passwords came from a network in the current minute."""
        stored = await self._failures.get(failures_id(network, now_ms))
        return stored.value.count if stored else 0

    async def count_failure(self, network: str, now_ms: int) -> None:
        """Counts a wrong password."""
        minute = LoginFailures(
            id=failures_id(network, now_ms), count=1, expires_ms=now_ms + 2 * FAILURES_WINDOW_MS
        )
        if await self._failures.increment(minute.id, {"count": 1}) is not None:
            return
        try:
            await self._failures.insert(minute)
        except AlreadyExists:
            await self._failures.increment(minute.id, {"count": 1})

    async def sweep(self, now_ms: int) -> None:
        """Deletes what no longer counts."""
        await _sweep(self._attempts, now_ms)
        await _sweep(self._failures, now_ms)


class LinkStore:
    """The links that were mailed, the mails that were asked for, and how many those were."""

    def __init__(
        self,
        links: Documents[Link],
        requests: Documents[MailRequest],
        times: Documents[MailTimes],
        counts: Documents[MailCount],
    ) -> None:
        self._links = links
        self._requests = requests
        self._times = times
        self._counts = counts

    async def add_link(self, link: Link) -> None:
        """Stores a new link."""
        await self._links.insert(link)

    async def link(self, link_id: str) -> Link | None:
        """One link."""
        stored = await self._links.get(link_id)
        return stored.value if stored else None

    async def remove_link(self, link_id: str) -> None:
        """Deletes a link, if it is still there."""
        await _removed_by_id(self._links, link_id)

    async def add_request(self, request: MailRequest) -> None:
        """Stores a request; one that is there already stays."""
        try:
            await self._requests.insert(request)
        except AlreadyExists:
            return

    async def requests(self, now_ms: int, limit: int) -> list[MailRequest]:
        """Requests that have not expired, those that will first."""
        page = await self._requests.find(EXPIRED.name, at_least=now_ms, limit=limit)
        return [stored.value for stored in page.items]

    async def remove_request(self, request_id: str) -> None:
        """Deletes a request, if it is still there."""
        await _removed_by_id(self._requests, request_id)

    async def add_time(self, email: str, now_ms: int) -> None:
        """Stores that a mail to an address is asked for.

        :raises ShopError: THROTTLED.
        """
        while True:
            stored = await self._times.get(times_id(email))
            value = asked_again(stored.value if stored else None, email, now_ms)
            try:
                if stored is None:
                    await self._times.insert(value)
                else:
                    await self._times.replace(stored, value)
            except (AlreadyExists, RevisionConflict):
                continue  # another request was faster, and after a few of those all are refused
            return

    async def count(self, count_id: str, expires_ms: int) -> int:
        """Counts one more; how many that makes."""
        while True:
            counted = await self._counts.increment(count_id, {"count": 1})
            if counted is not None:
                return counted.value.count
            try:
                await self._counts.insert(MailCount(id=count_id, count=1, expires_ms=expires_ms))
            except AlreadyExists:
                continue  # another process has begun the count, which only the sweep deletes
            return 1

    async def sweep(self, now_ms: int) -> None:
        """Deletes what has expired."""
        await _sweep(self._links, now_ms)
        await _sweep(self._requests, now_ms)
        await _sweep(self._times, now_ms)
        await _sweep(self._counts, now_ms)


async def _sweep(documents: Documents[Expiring], now_ms: int) -> None:
    async for stored in _each(documents, EXPIRED.name, now_ms):
        await _removed(documents, stored)


async def _each(
    documents: Documents[Expiring], index: str, below: int | None
) -> AsyncIterator[Stored[Expiring]]:
    cursor: str | None = None
    while True:
        page = await documents.find(index, below=below, limit=_PAGE, cursor=cursor)
        for stored in page.items:
            yield stored
        cursor = page.next_cursor
        if cursor is None:
            return


async def _removed_by_id(documents: Documents[Expiring], document_id: str) -> None:
    """Deletes a document, whatever anybody else does to it."""
    while (stored := await documents.get(document_id)) is not None:
        if await _removed(documents, stored):
            return


async def _removed(documents: Documents[Expiring], stored: Stored[Expiring]) -> bool:
    """Deletes that state of a document; False when it was changed or deleted meanwhile."""
    try:
        await documents.delete(stored)
    except RevisionConflict:
        return False
    return True
