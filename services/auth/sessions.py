"""Sessions: refresh tokens that work once (RFC 9700 §4.14.2), shared by several processes."""

from __future__ import annotations

from collections.abc import Callable

from services.auth.model import sessions as model
from services.auth.model.accounts import Account
from services.auth.model.sessions import RefreshToken, Session, TokenUse
from services.auth.store import SessionStore
from services.common import error_codes
from services.common.clock import now_ms
from services.common.documents import Stored
from services.common.errors import Kind, ShopError
from services.common.observing.logs import get_logger

log = get_logger(__name__)


class Sessions:
    """Begins, renews and ends sessions.

    A token that comes back after it was replaced is in two hands: the whole session ends, and both
    must log in again. Only within REPEAT_GRACE_MS of its use it is answered with the same successor
    once more.

    :param lifetime_seconds: how long a session lasts without being renewed.
    :param clock: gives the Unix time in milliseconds.
    """

    def __init__(
        self,
        store: SessionStore,
        lifetime_seconds: int,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._lifetime_ms = lifetime_seconds * 1000
        self._clock = clock

    async def begin(self, account: Account) -> RefreshToken:
        """A new session's first refresh token."""
        session, token = model.new_session(
            account.user_id, account.password_version, self._clock(), self._lifetime_ms
        )
        await self._store.add(session)
        return token

    async def of_token(self, text: str) -> Session:
        """The session that a refresh token belongs to, without using it up.

        :raises ShopError: UNAUTHENTICATED for a token that is not good (any more).
        """
        stored, _ = await self._checked(_parse(text))
        return stored.value

    async def renew(self, text: str) -> str:
        """The refresh token that replaces this one.

        :raises ShopError: UNAUTHENTICATED for a token that is not good (any more).
        """
        token = _parse(text)
        while True:
            stored, use = await self._checked(token)
            if use is TokenUse.REPEATED:
                return model.successor(stored.value, token).text
            session = model.renewed(stored.value, token, self._clock(), self._lifetime_ms)
            if await self._store.save(stored, session):
                return model.successor(session, token).text
            # The same token was used at the same time, or the session was ended: look again.

    async def end(self, text: str) -> None:
        """Ends the session of a token, current or not; when there is none, that is as good."""
        token = RefreshToken.parse(text)
        if token is not None:
            await self._store.remove(token.session_id)

    async def sweep(self) -> None:
        """Deletes expired sessions."""
        await self._store.sweep(self._clock())

    async def _checked(self, token: RefreshToken) -> tuple[Stored[Session], TokenUse]:
        stored = await self._store.get(token.session_id)
        if stored is None:
            raise not_good()
        use = model.use_of(stored.value, token, self._clock())
        if use is TokenUse.REUSED:
            log.warning(
                "session.token_reused", session=stored.value.id, user_id=stored.value.user_id
            )
            await self._store.remove(token.session_id)
        if use in {TokenUse.REUSED, TokenUse.EXPIRED}:
            raise not_good()
        return stored, use


def _parse(text: str) -> RefreshToken:
    token = RefreshToken.parse(text)
    if token is None:
        raise not_good()
    return token


def not_good() -> ShopError:
    """The answer to a token that is not good (any more)."""
    return ShopError(
        Kind.UNAUTHENTICATED,
        error_codes.SESSION_ENDED,
        "Your session has ended. Please log in again.",
    )
