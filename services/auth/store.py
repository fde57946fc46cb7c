"""Every query of the auth service."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
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
from services.common.documents import DocumentModel, Documents, RevisionConflict, Stored

Expiring = TypeVar("Expiring", bound=DocumentModel)
Count = TypeVar("Count", LoginFailures, MailCount)


class KeyStore:
    """The signing keys."""

    def __init__(self, keys: Documents[SigningKey]) -> None:
        self._keys = keys

    async def all(self) -> list[Stored[SigningKey]]:
        """All keys, by generation."""
        return [stored async for stored in self._keys.each(BY_GENERATION)]

    async def add(self, key: SigningKey) -> bool:
        """Stores a key, unless another process was faster with that generation: False."""
        return await self._keys.add(key) is not None

    async def remove(self, key_id: str) -> None:
        """Deletes a key."""
        await self._keys.remove(key_id)


class DeviceKeyStore:
    """The one key that signs device tokens."""

    def __init__(self, keys: Documents[DeviceKey]) -> None:
        self._keys = keys

    async def get_or_make(self) -> DeviceKey:
        """The key, the same for all processes."""
        key = new_key()
        return (await self._keys.upsert(key.id, lambda known: known or key)).stored.value


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
        await self._sessions.remove(session_id)

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
        one_more = partial(attempted, source=source, email=email, now_ms=now_ms)
        await self._attempts.upsert(attempts_id(source, email), one_more)

    async def forget(self, source: Source, email: str) -> None:
        """Starts over with a source and an address."""
        await self._attempts.remove(attempts_id(source, email))

    async def failures(self, network: str, now_ms: int) -> int:
        """How many wrong passwords came from a network in the current minute."""
        stored = await self._failures.get(failures_id(network, now_ms))
        return stored.value.count if stored else 0

    async def count_failure(self, network: str, now_ms: int) -> None:
        """Counts a wrong password."""
        minute = LoginFailures(
            id=failures_id(network, now_ms), count=1, expires_ms=now_ms + 2 * FAILURES_WINDOW_MS
        )
        await _counted(self._failures, minute)

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
        await self._links.remove(link_id)

    async def add_request(self, request: MailRequest) -> None:
        """Stores a request; one that is there already stays."""
        await self._requests.add(request)

    async def requests(self, now_ms: int, limit: int) -> list[MailRequest]:
        """Requests that have not expired, those that will first."""
        page = await self._requests.find(EXPIRED.name, at_least=now_ms, limit=limit)
        return [stored.value for stored in page.items]

    async def remove_request(self, request_id: str) -> None:
        """Deletes a request, if it is still there."""
        await self._requests.remove(request_id)

    async def add_time(self, email: str, now_ms: int) -> None:
        """Stores that a mail to an address is asked for.

        :raises ShopError: THROTTLED.
        """
        await self._times.upsert(times_id(email), partial(asked_again, email=email, now_ms=now_ms))

    async def count(self, count_id: str, expires_ms: int) -> int:
        """Counts one more; how many that makes."""
        first = MailCount(id=count_id, count=1, expires_ms=expires_ms)
        return (await _counted(self._counts, first)).count

    async def sweep(self, now_ms: int) -> None:
        """Deletes what has expired."""
        await _sweep(self._links, now_ms)
        await _sweep(self._requests, now_ms)
        await _sweep(self._times, now_ms)
        await _sweep(self._counts, now_ms)


async def _counted(documents: Documents[Count], first: Count) -> Count:
    """Counts one more, from `first` on; returns what that makes."""
    while True:
        counted = await documents.increment(first.id, {"count": 1}) or await documents.add(first)
        if counted is not None:
            return counted.value


async def _sweep(documents: Documents[Expiring], now_ms: int) -> None:
    async for stored in documents.each(EXPIRED.name, below=now_ms):
        with suppress(RevisionConflict):  # it lives on, or another process has deleted it
            await documents.delete(stored)
