"""Links by mail: asked for by anybody, sent to the owner of the address, good once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from services.auth.clients import AccountNotifications, Accounts
from services.auth.model import links as model
from services.auth.model.accounts import Account
from services.auth.model.links import Link, Mail, MailRequest
from services.auth.store import LinkStore
from services.common.background.jobs import for_each
from services.common.clock import now_ms
from services.common.errors import ShopError, may_succeed_later
from services.common.observing.logs import get_logger

log = get_logger(__name__)

_SWEEP_LIMIT = 100
_AT_ONCE = 4


class Limits(NamedTuple):
    """How many links are mailed for one network, and in all."""

    network_per_hour: int
    shop_per_minute: int


class Links:
    """Takes requests, sends them later, and knows which codes are good.

    What is done later takes no time of the request: how long an answer takes says nothing about
    whether there is an account, and registering does not wait for `notification`.

    :param limits: how many links are mailed; further requests are refused.
    :param clock: returns the Unix time in milliseconds.
    """

    def __init__(
        self,
        store: LinkStore,
        users: Accounts,
        notifications: AccountNotifications,
        limits: Limits,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._users = users
        self._notifications = notifications
        self._limits = limits
        self._clock = clock
        self._asked: Callable[[], None] | None = None

    def on_request(self, asked: Callable[[], None]) -> None:
        """Calls this after each request."""
        self._asked = asked

    async def request(self, mail: Mail, email: str, network: str, *, user_id: str = "") -> None:
        """Asks for a link to an address, whether or not it has an account.

        :param network: where the request comes from.
        :param user_id: of the guest whom it is for.
        :raises ShopError: THROTTLED after MAILS_PER_ADDRESS within an hour, after too many from
            that network in this hour of the clock, or when the shop has mailed as many as it may in
            this minute.
        """
        now = self._clock()
        # What one address or network is refused does not count for the others.
        await self._store.add_time(email, now)
        for count_id, limit, window_ms in (
            (
                model.network_count_id(network, now),
                self._limits.network_per_hour,
                model.HOUR_MS,
            ),
            (model.shop_count_id(now), self._limits.shop_per_minute, model.MINUTE_MS),
        ):
            count = await self._store.count(count_id, now + 2 * window_ms)
            model.check_count(count, limit, window_ms, now)
        await self._keep(model.new_request(mail, email, now, user_id=user_id))

    async def tell(self, mail: Mail, email: str, event_id: str) -> None:
        """Asks for a mail without a link, once per event."""
        await self._keep(model.new_request(mail, email, self._clock(), request_id=event_id))

    async def find(self, mail: Mail, code: str) -> Link:
        """What a code stands for, without using it up.

        :raises ShopError: INVALID for a code that is not good (any more).
        """
        link = await self._store.link(model.link_id(code))
        if link is None or not model.is_good(link, mail, self._clock()):
            raise model.link_over()
        return link

    async def use_up(self, link: Link) -> None:
        """Ends a link."""
        await self._store.remove_link(link.id)

    async def send(self) -> bool:
        """Hands the requests to `notification`; whether there may be more.

        Several processes may send the same request: `notification` takes the first by its id, and
        the code of the other was never mailed.

        :raises ShopError: a service that is needed is away; the requests stay.
        """
        requests = await self._store.requests(self._clock(), _SWEEP_LIMIT)
        await for_each(requests, self._send, _AT_ONCE)
        return len(requests) >= _SWEEP_LIMIT

    async def sweep(self) -> None:
        """Deletes what has expired."""
        await self._store.sweep(self._clock())

    async def _keep(self, request: MailRequest) -> None:
        await self._store.add_request(request)
        if self._asked is not None:
            self._asked()

    async def _send(self, request: MailRequest) -> None:
        account = await self._owner(request)
        if account is not None:
            code = ""
            if request.mail is not Mail.PASSWORD_CHANGED:
                link, code = model.new_link(request, account, self._clock())
                await self._store.add_link(link)
            try:
                await self._notifications.mail(request.id, request.mail, account, code)
            except ShopError as error:
                if may_succeed_later(error):
                    raise
                log.warning("link.refused", mail=request.mail, reason=error.detail)
        await self._store.remove_request(request.id)

    async def _owner(self, request: MailRequest) -> Account | None:
        if request.user_id:
            return await self._users.get(request.user_id)
        credentials = await self._users.credentials(request.email)
        return credentials.account if credentials else None
