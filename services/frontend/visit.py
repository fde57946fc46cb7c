"""One visit to a page: who comes, with what in the cart, and what the page is to tell them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

from fastapi import Depends, Request

from services.common import context
from services.common.dependency_injection import provided
from services.common.fields import is_slug
from services.common.identity.access_tokens import Caller
from services.frontend.cart import cart_from_cookie, cart_to_cookie
from services.frontend.cookies import Cookie, CookieJar
from services.frontend.mesh_page.waterfall import Waterfall, waterfall_from_cookie
from services.frontend.model import MAX_SEEN, Cart, Department, Draft
from services.frontend.origin import Origin
from services.frontend.sealing import Seal
from services.frontend.security import form_token, local_path, wants_canary
from services.frontend.service import DepartmentCache
from services.frontend.session import CustomerSession, CustomerSessions

_NOTICE = "notice"
_SEEN = "seen"
_NOTICE_SECONDS = 120
_BOUGHT = "bought"
# More pages than anybody goes back through.
_MAX_BOUGHT = 8

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence at the top of the page."""

    text: str
    tone: Tone


@dataclass(slots=True)
class Visit:
    """What a page knows about its visitor. Changes to it become cookies of the answer.

    :param session: None for a guest.
    :param canary: whether the visitor asks for the preview of the new catalogue.
    :param origin: where the visitor finds the shop, as ``https://shop.example``; empty when that is
        not known.
    :param made_before: the calls of the request that sent the visitor here, such as a purchase.
    :param id_sent: the visit's id as the browser sent it; None on the first page.
    """

    seal: Seal
    jar: CookieJar
    session: CustomerSession | None
    canary: bool
    origin: str
    path: str
    id: str
    id_sent: str | None
    cart: Cart
    seen: tuple[str, ...]
    departments: Sequence[Department] = ()
    made_before: Waterfall | None = None
    notices: list[Notice] = field(default_factory=list[Notice])
    started: float = field(default_factory=time.perf_counter)
    _form_token: tuple[str, str] | None = None  # the id that it is of, and the token

    @property
    def caller(self) -> Caller | None:
        """The logged-in customer."""
        return self.session.caller if self.session else None

    @property
    def form_token(self) -> str:
        """What every form of this page bears."""
        if self._form_token is None or self._form_token[0] != self.id:
            self._form_token = self.id, form_token(self.seal, self.id)
        return self._form_token[1]

    @property
    def looks_logged_in(self) -> bool:
        """Whether the browser keeps a session, be it one that cannot be checked at the moment."""
        return self.session is not None or self.jar.get(Cookie.REFRESH) is not None

    def department(self, category_id: str) -> Department | None:
        """The department of that id, as far as it is known."""
        return next((one for one in self.departments if one.id == category_id), None)

    def put_cart(self, cart: Cart) -> None:
        """Keeps a changed cart."""
        if cart.lines:
            self.jar.put(Cookie.CART, cart_to_cookie(self.seal, cart))
        else:
            self.jar.drop(Cookie.CART)
        self.cart = cart

    def take_out(self, draft: Draft) -> None:
        """Takes out of the cart what a draft has bought, once: its page may be sent again when the
        cart has been filled again.
        """
        bought = _texts(self.seal, self.jar, Cookie.BOUGHT, _BOUGHT)
        if draft.idempotency_key in bought:
            return
        self.put_cart(self.cart.without_all_of(draft.cart))
        kept = [draft.idempotency_key, *bought][:_MAX_BOUGHT]
        self.jar.put(Cookie.BOUGHT, self.seal.close(_BOUGHT, kept))

    def tell(self, text: str, tone: Tone = "plain") -> None:
        """Says something on this page."""
        self.notices.append(Notice(text, tone))

    def tell_next(self, text: str, tone: Tone = "plain") -> None:
        """Says something on the page that the visitor is sent to."""
        self.jar.put(Cookie.NOTICE, self.seal.close(_NOTICE, [text, tone]))

    def see(self, product_id: str) -> None:
        """Remembers that the visitor looked at a product."""
        others = (other for other in self.seen if other != product_id)
        self.seen = (product_id, *others)[:MAX_SEEN]
        self.jar.put(Cookie.SEEN, self.seal.close(_SEEN, list(self.seen)))

    def renew_id(self) -> None:
        """A new id, when the visitor logs in or out: forms from before no longer count."""
        self.id = secrets.token_urlsafe(18)
        self.jar.put(Cookie.VISIT, self.id)

    def enter(self, session: CustomerSession | None) -> None:
        """Makes calls from now on in the name of this customer, on the routes of their groups."""
        self.session = session
        request = context.current()
        request.token = session.token if session else None
        routing = {name: value for name, value in request.routing.items() if name == "canary"}
        if session is not None:
            routing["user-id"] = session.caller.user_id
            group = _routed_group(session.caller.groups)
            if group is not None:
                routing["x-user-group"] = group
        request.routing = routing


class Visits:
    """Opens visits."""

    def __init__(
        self,
        *,
        origin: Origin,
        seal: Seal,
        sessions: CustomerSessions,
        departments: DepartmentCache,
        secure_cookies: bool,
    ) -> None:
        self._origin = origin
        self._seal = seal
        self._sessions = sessions
        self._departments = departments
        self._secure_cookies = secure_cookies

    async def open(self, request: Request) -> Visit:
        """The visit that a request belongs to; the same one when asked again."""
        visit: Visit | None = getattr(request.state, "visit", None)
        if visit is None:
            visit = self._without_session(request)
            request.state.visit = visit
            visit.enter(await self._sessions.find(visit.jar))
            visit.departments = await self._departments.known()
        return visit

    def _without_session(self, request: Request) -> Visit:
        jar = CookieJar(self._secure_cookies, request.cookies)
        id_sent = jar.get(Cookie.VISIT)
        visit = Visit(
            seal=self._seal,
            jar=jar,
            session=None,
            canary=wants_canary(request.scope),
            origin=self._origin.of(request),
            path=local_path(_path_and_query(request)),
            id=id_sent or "",
            id_sent=id_sent,
            cart=Cart(),
            seen=tuple(filter(is_slug, _texts(self._seal, jar, Cookie.SEEN, _SEEN)))[:MAX_SEEN],
        )
        if id_sent is None:
            visit.renew_id()
        self._read_notice(visit)
        self._read_made(visit)
        self._read_cart(visit)
        return visit

    def _read_cart(self, visit: Visit) -> None:
        text = visit.jar.get(Cookie.CART)
        if text is None:
            return
        cart = cart_from_cookie(self._seal, text)
        if cart is None:
            visit.jar.drop(Cookie.CART)
            visit.tell("Your cart could not be read, so it is empty now. We are sorry.", "bad")
        else:
            visit.cart = cart

    def _read_notice(self, visit: Visit) -> None:
        match _texts(self._seal, visit.jar, Cookie.NOTICE, _NOTICE, _NOTICE_SECONDS):
            case [text, ("good" | "bad" | "plain") as tone]:
                visit.tell(text, tone)
            case _:
                pass
        visit.jar.drop(Cookie.NOTICE)

    def _read_made(self, visit: Visit) -> None:
        text = visit.jar.get(Cookie.MADE)
        if text is not None:
            visit.made_before = waterfall_from_cookie(self._seal, text)
            visit.jar.drop(Cookie.MADE)


def _texts(
    seal: Seal, jar: CookieJar, cookie: Cookie, purpose: str, max_age_seconds: int | None = None
) -> list[str]:
    """The texts that a cookie lists; none when it has not been sealed for this purpose."""
    text = jar.get(cookie)
    value = None if text is None else seal.open(purpose, text, max_age_seconds)
    if not isinstance(value, list):
        return []
    return [item for item in cast("list[object]", value) if isinstance(item, str)]


def _routed_group(groups: tuple[str, ...]) -> str | None:
    """The one group that the meshes' rules are told: they match the header as a whole."""
    return "beta" if "beta" in groups else next(iter(groups), None)


def _path_and_query(request: Request) -> str:
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


async def _open_visit(request: Request, visits: Annotated[Visits, provided(Visits)]) -> Visit:
    return await visits.open(request)


VisitDependency = Annotated[Visit, Depends(_open_visit)]
