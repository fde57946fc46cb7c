"""What every page needs, and who may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from services.common.dependency_injection import provided
from services.common.errors import Kind, ShopError
from services.frontend.model import SessionTokens
from services.frontend.rendering import MOBILE, Renderer
from services.frontend.service import Customers, Storefront
from services.frontend.session import CustomerSession, CustomerSessions
from services.frontend.visit import Visit


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of the shop's site that pages share."""

    renderer: Renderer
    storefront: Storefront
    customers: Customers

    def page_size(self, usual: int) -> int:
        """How many things to list: half of it on the small pages of the mobile variant."""
        return usual // 2 if self.renderer.variant == MOBILE else usual


SiteDependency = Annotated[Site, provided(Site)]


def require_session(visit: Visit) -> CustomerSession:
    """The customer's session.

    :raises ShopError: UNAUTHENTICATED for a guest; UNAVAILABLE for somebody whose session cannot be
        checked now.
    """
    if visit.session is not None:
        return visit.session
    if visit.looks_logged_in:
        raise ShopError(
            Kind.UNAVAILABLE,
            "auth-unavailable",
            "We cannot check who you are at the moment. You are still logged in: please try again.",
            retry_after_seconds=2,
        )
    raise ShopError(Kind.UNAUTHENTICATED, "login-needed", "Please log in to continue.")


async def leaves_orders(site: Site, visit: Visit) -> bool:
    """Whether the visitor is a guest with orders, which nobody sees any more once the guest's
    session ends.
    """
    caller = visit.caller
    return caller is not None and caller.is_guest and await site.customers.may_have_orders()


async def begin_session(visit: Visit, sessions: CustomerSessions, tokens: SessionTokens) -> None:
    """Lets the customer in for whom auth has just issued these tokens."""
    visit.enter(await sessions.begin(visit.jar, tokens))
    visit.renew_id()
