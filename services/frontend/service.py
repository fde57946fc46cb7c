"""What the pages show, put together from the other services' answers.

Each page has a part that it is about, whose failure is the page's failure, and parts that may be
missing: those are None while the service behind them is away, and the page says so and works on.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import Caller
from services.common.limits import MAX_PRODUCTS_PAGE
from services.common.money import Money
from services.frontend.clients import (
    InventoryClient,
    NotificationClient,
    OrderClient,
    ProductClient,
    ShippingClient,
    UserClient,
)
from services.frontend.model import (
    AddressBookEntry,
    Article,
    Basket,
    BasketLine,
    Cart,
    CataloguePage,
    CustomerOrder,
    DeliveryQuote,
    Department,
    Draft,
    DraftLine,
    Filters,
    InboxPage,
    OrderHistoryPage,
    Parcel,
    PostalAddress,
    ProductWithRelated,
    Profile,
)

_AWAY = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.THROTTLED, Kind.INTERNAL})
_RELATED = 4
_DEPARTMENTS_SECONDS = 60.0
_DEPARTMENTS_RETRY_SECONDS = 5.0

T = TypeVar("T")


async def unless_away(call: Awaitable[T]) -> T | None:
    """What a call gives, or None when the service behind it cannot be asked at the moment."""
    try:
        return await call
    except ShopError as error:
        if error.kind in _AWAY:
            return None
        raise


def is_away(error: ShopError) -> bool:
    """Whether an error says that a service cannot be asked, rather than that it refused."""
    return error.kind in _AWAY


class DepartmentCache:
    """The shop's departments, which every page lists: asked for once in a while, not for each page.

    :param clock: seconds that never go back.
    """

    def __init__(
        self, products: ProductClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._products = products
        self._clock = clock
        self._known: Sequence[Department] = ()
        self._renew_at = float("-inf")
        self._asking = asyncio.Lock()

    async def known(self) -> Sequence[Department]:
        """The departments as they were a moment ago; none before the catalogue ever answered."""
        if self._clock() >= self._renew_at and not (self._known and self._asking.locked()):
            async with self._asking:
                if self._clock() >= self._renew_at:
                    await self._renew()
        return self._known

    async def _renew(self) -> None:
        answer = await unless_away(self._products.categories())
        if answer is not None:
            self._known = answer
        pause = _DEPARTMENTS_SECONDS if answer is not None else _DEPARTMENTS_RETRY_SECONDS
        self._renew_at = self._clock() + pause


@dataclass(frozen=True, slots=True)
class CheckoutPayment:
    """The last step of a checkout.

    :param quotes: None while shipping is away; the order still can.
    """

    draft: Draft
    basket: Basket
    quotes: Sequence[DeliveryQuote] | None

    @property
    def totals(self) -> dict[str, Money]:
        """What the order costs, by shipping service; empty while shipping is away."""
        return {quote.service: self.basket.total + quote.price for quote in self.quotes or ()}


@dataclass(frozen=True, slots=True)
class OrderTracking:
    """An order and its parcel.

    :param shipment: None while there is none, or while it is not known.
    :param shipment_known: whether shipping could be asked.
    """

    order: CustomerOrder
    shipment: Parcel | None
    shipment_known: bool

    @property
    def is_moving(self) -> bool:
        """Whether there is news to wait for."""
        if not self.order.is_settled:
            return True
        if self.order.state == "cancelled":
            return False
        return self.shipment is None or self.shipment.is_moving


@dataclass(frozen=True, slots=True)
class AccountView:
    """The customer's account.

    :param mail_waits: whether mails wait until the customer confirms the e-mail address.
    """

    profile: Profile
    addresses: Sequence[AddressBookEntry] | None
    mail_waits: bool


class Storefront:
    """The catalogue, the cart and the checkout."""

    def __init__(
        self,
        *,
        products: ProductClient,
        inventory: InventoryClient,
        shipping: ShippingClient,
        users: UserClient,
        orders: OrderClient,
    ) -> None:
        self._products = products
        self._inventory = inventory
        self._shipping = shipping
        self._users = users
        self._orders = orders

    async def home(self, limit: int) -> CataloguePage | None:
        """What customers rate best, and what is new; None while the catalogue is away."""
        return await unless_away(self._products.page(sort="rating", limit=limit, arrivals=limit))

    async def browse(
        self,
        *,
        query: str,
        category: str,
        sort: str,
        filters: Filters,
        cursor: str,
        limit: int,
        pages: int = 1,
    ) -> CataloguePage:
        """Some of the catalogue: so many pages of `limit` products, or fewer when there are no
        more.
        """

        async def page(cursor: str) -> CataloguePage:
            return await self._products.page(
                query=query,
                category=category,
                sort=sort,
                filters=filters,
                cursor=cursor,
                limit=limit,
            )

        found = await page(cursor)
        for _ in range(1, pages):
            if found.next_cursor is None:
                break
            more = await page(found.next_cursor)
            found = more.model_copy(
                update={"items": (*found.items, *more.items), "suggestion": found.suggestion}
            )
        return found

    async def product_ids(self) -> Sequence[str]:
        """All products of the catalogue."""
        page = await self._products.page(limit=MAX_PRODUCTS_PAGE)
        ids = [product.id for product in page.items]
        while page.next_cursor is not None:
            page = await self._products.page(limit=MAX_PRODUCTS_PAGE, cursor=page.next_cursor)
            ids += [product.id for product in page.items]
        return ids

    async def show(self, product_id: str) -> ProductWithRelated:
        """One product, with others of its department."""
        return await self._products.product(product_id, related=_RELATED)

    async def names(self, product_ids: Sequence[str]) -> Sequence[Article]:
        """These products, as far as they are still sold; none while the catalogue is away."""
        if not product_ids:
            return []
        articles = await unless_away(self._products.articles(product_ids)) or {}
        return [articles[product_id] for product_id in product_ids if product_id in articles]

    async def basket(self, cart: Cart) -> Basket | None:
        """The cart with prices and stock; None while the catalogue is away."""
        if not cart.lines:
            return Basket(())
        articles, stock = await asyncio.gather(
            unless_away(self._products.articles(cart.product_ids)),
            unless_away(self._inventory.stock(cart.product_ids)),
        )
        if articles is None:
            return None
        return Basket(
            tuple(
                BasketLine(
                    product_id=line.product_id,
                    quantity=line.quantity,
                    article=articles.get(line.product_id),
                    available=None if stock is None else stock.get(line.product_id, 0),
                )
                for line in cart.lines
            )
        )

    async def available(self, product_id: str) -> int | None:
        """How many of a product can be had; None while nobody knows."""
        stock = await unless_away(self._inventory.stock([product_id]))
        return None if stock is None else stock.get(product_id, 0)

    async def addresses(self) -> Sequence[AddressBookEntry] | None:
        """The customer's address book; None while it cannot be read."""
        return await unless_away(self._users.addresses())

    async def keep_address(self, address: PostalAddress) -> AddressBookEntry | None:
        """Adds to the address book; None while it cannot be written."""
        return await unless_away(self._users.add_address(address))

    def draft(self, *, user_id: str, cart: Cart, address: PostalAddress) -> Draft:
        """A new order to place, under a new key."""
        return Draft(
            idempotency_key=uuid.uuid4().hex,
            user_id=user_id,
            lines=tuple(
                DraftLine(product_id=line.product_id, quantity=line.quantity) for line in cart.lines
            ),
            address=PostalAddress(**address.model_dump(include=set(PostalAddress.model_fields))),
        )

    async def payment(self, draft: Draft) -> CheckoutPayment:
        """The last step for a draft.

        :raises ShopError: UNAVAILABLE, while the catalogue is away.
        """
        basket = await self.basket(draft.cart)
        if basket is None:
            raise ShopError(
                Kind.UNAVAILABLE,
                "product-unavailable",
                "The catalogue is taking a short break, so we cannot show you the total.",
                retry_after_seconds=2,
            )
        quotes = await unless_away(
            self._shipping.quotes(country=draft.address.country, weight_grams=basket.weight_grams)
        )
        return CheckoutPayment(draft, basket, quotes)

    async def place(self, draft: Draft, *, payment_method: str, shipping: str) -> CustomerOrder:
        """Places the order, or raises what refused it."""
        return await self._orders.place(draft, payment_method=payment_method, shipping=shipping)


class Customers:
    """What belongs to one customer: orders, messages, the account."""

    def __init__(
        self,
        *,
        users: UserClient,
        orders: OrderClient,
        shipping: ShippingClient,
        notifications: NotificationClient,
    ) -> None:
        self._users = users
        self._orders = orders
        self._shipping = shipping
        self._notifications = notifications

    async def orders(
        self, *, query: str, attempts: bool | None, cursor: str, limit: int
    ) -> OrderHistoryPage:
        """Some of the orders that are about `query`, newest first.

        :param attempts: True for only the attempts, False for all but those.
        """
        return await self._orders.history(
            query=query, attempts=attempts, limit=limit, cursor=cursor
        )

    async def contact_email(self, caller: Caller) -> str:
        """Where the customer is written to; empty while nobody can say. The token of a guest bears
        no address.
        """
        if not caller.is_guest:
            return caller.email
        profile = await unless_away(self._users.profile())
        return profile.email if profile else ""

    async def may_have_orders(self) -> bool:
        """Whether the customer has orders; True also while nobody can say, since what depends on it
        is a warning.
        """
        try:
            page = await self._orders.history(query="", attempts=False, limit=1, cursor="")
        except ShopError:
            return True
        return bool(page.items)

    async def follow(self, order_id: str) -> OrderTracking:
        """An order with its parcel."""
        order, parcel = await asyncio.gather(
            self._orders.order(order_id), self._parcel(order_id), return_exceptions=True
        )
        if isinstance(order, BaseException):
            raise order
        if isinstance(parcel, BaseException):
            raise parcel
        known, shipment = parcel
        return OrderTracking(order, shipment, known)

    async def cancel(self, order_id: str) -> CustomerOrder:
        """Cancels an order. CONFLICT when it is too late."""
        return await self._orders.cancel(order_id)

    async def inbox(self, *, cursor: str, limit: int) -> InboxPage:
        """Some of the messages, newest first."""
        return await self._notifications.inbox(limit=limit, cursor=cursor)

    async def account(self) -> AccountView:
        """The account with its address book."""
        profile, addresses, messages = await asyncio.gather(
            self._users.profile(),
            unless_away(self._users.addresses()),
            unless_away(self._notifications.inbox(limit=1, cursor="")),
        )
        return AccountView(profile, addresses, messages is not None and messages.mail == "waiting")

    async def rename(self, name: str) -> None:
        """Changes the customer's name."""
        await self._users.rename(name)

    async def join_beta(self, joins: bool) -> None:
        """Joins the beta programme, or leaves it."""
        await self._users.join_beta(joins)

    async def add_address(self, address: PostalAddress) -> None:
        """Adds to the address book."""
        await self._users.add_address(address)

    async def remove_address(self, address_id: str) -> None:
        """Removes from the address book."""
        await self._users.remove_address(address_id)

    async def _parcel(self, order_id: str) -> tuple[bool, Parcel | None]:
        try:
            return True, await self._shipping.shipment(order_id)
        except ShopError as error:
            if is_away(error):
                return False, None
            raise
