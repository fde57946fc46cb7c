"""Whom the frontend calls: one class per service, each bound to the calls that the topology
declares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from services.common import context, error_codes
from services.common.calls.grpc_client import GrpcEdge
from services.common.calls.http_client import HttpEdge, HttpReply
from services.common.errors import Kind, ShopError
from services.common.money import Money
from services.common.serving.client_address import FORWARDED_FOR
from services.frontend.model import (
    NO_FILTERS,
    AddressBookEntry,
    Article,
    CataloguePage,
    CustomerOrder,
    DeliveryQuote,
    Department,
    Draft,
    Filters,
    InboxPage,
    OrderHistoryPage,
    Parcel,
    PostalAddress,
    ProductWithRelated,
    Profile,
    SessionTokens,
    TrackingEvent,
    from_milliseconds,
)
from services.pb import inventory_pb2, product_pb2, shipping_pb2

Answer = TypeVar("Answer", bound=BaseModel)


class _Categories(BaseModel):
    items: tuple[Department, ...]


class _Addresses(BaseModel):
    items: tuple[AddressBookEntry, ...]


class AuthClient:
    """Sessions. Its errors: UNAUTHENTICATED for wrong credentials, THROTTLED after too many of
    them.

    What takes a password's hash or sends a mail is told the visitor's address: `auth` limits that
    by where it comes from.
    """

    def __init__(self, edge: HttpEdge) -> None:
        self._register = edge.route("POST", "/api/auth/register")
        self._open_guest = edge.route("POST", "/api/auth/guest")
        self._keep_guest = edge.route("POST", "/api/auth/guest/keep")
        self._change_guest_email = edge.route("POST", "/api/auth/guest/address")
        self._mail_guest_link = edge.route("POST", "/api/auth/guest/address/mail")
        self._login = edge.route("POST", "/api/auth/login")
        self._refresh = edge.route("POST", "/api/auth/refresh")
        self._logout = edge.route("POST", "/api/auth/logout")
        self._password = edge.route("POST", "/api/auth/password")
        self._mail_password_link = edge.route("POST", "/api/auth/password/mail")
        self._reset_password = edge.route("POST", "/api/auth/password/reset")
        self._mail_address_link = edge.route("POST", "/api/auth/address/mail")
        self._confirm_address = edge.route("POST", "/api/auth/address/confirm")

    async def register(self, email: str, password: str, name: str) -> SessionTokens:
        """Opens an account and logs in. CONFLICT for an address that has one."""
        body = {"email": email, "password": password, "name": name}
        return _read(SessionTokens, await self._register(json=body, headers=_visitors_address()))

    async def open_guest(self, email: str, name: str) -> SessionTokens:
        """A session for somebody without an account, whoever else has that address."""
        body = {"email": email, "name": name}
        return _read(SessionTokens, await self._open_guest(json=body, headers=_visitors_address()))

    async def keep_guest(self, refresh_token: str, email: str, password: str) -> SessionTokens:
        """Gives a guest's account a password. CONFLICT when it has one ("not-a-guest"), or when the
        address has another account ("email-taken").
        """
        body = {"refresh_token": refresh_token, "email": email, "password": password}
        return _read(SessionTokens, await self._keep_guest(json=body, headers=_visitors_address()))

    async def change_guest_email(self, refresh_token: str, email: str) -> None:
        """Writes to a guest at another address. CONFLICT ("not-a-guest")."""
        body = {"refresh_token": refresh_token, "email": email}
        await self._change_guest_email(json=body, headers=_visitors_address())

    async def mail_guest_link(self, refresh_token: str) -> None:
        """Mails a guest the link to confirm the address again. THROTTLED after too many."""
        body = {"refresh_token": refresh_token}
        await self._mail_guest_link(json=body, headers=_visitors_address())

    async def log_in(self, email: str, password: str, device_token: str | None) -> SessionTokens:
        """A new session.

        :param device_token: what an earlier session left in this browser.
        """
        body = {"email": email, "password": password}
        if device_token is not None:
            body["device_token"] = device_token
        return _read(SessionTokens, await self._login(json=body, headers=_visitors_address()))

    async def refresh(self, refresh_token: str) -> SessionTokens:
        """New tokens for a session. UNAUTHENTICATED when it has ended."""
        return _read(SessionTokens, await self._refresh(json={"refresh_token": refresh_token}))

    async def log_out(self, refresh_token: str) -> None:
        """Ends a session."""
        await self._logout(json={"refresh_token": refresh_token})

    async def change_password(self, email: str, password: str, new_password: str) -> SessionTokens:
        """Changes the password; the new session is the only one. INVALID for a weak one."""
        body = {"email": email, "password": password, "new_password": new_password}
        return _read(SessionTokens, await self._password(json=body, headers=_visitors_address()))

    async def mail_password_link(self, email: str) -> None:
        """Mails a link to set a password, if there is an account. THROTTLED after too many."""
        await self._mail_password_link(json={"email": email}, headers=_visitors_address())

    async def reset_password(self, code: str, new_password: str) -> None:
        """Sets the password with a mailed code. INVALID for a code that is over, or a weak one."""
        body = {"code": code, "new_password": new_password}
        await self._reset_password(json=body, headers=_visitors_address())

    async def mail_address_link(self, email: str) -> None:
        """Mails a link to confirm an address. THROTTLED after too many."""
        await self._mail_address_link(json={"email": email}, headers=_visitors_address())

    async def confirm_address(self, code: str) -> None:
        """Confirms an address with a mailed code. INVALID for a code that is over."""
        await self._confirm_address(json={"code": code})


class UserClient:
    """The customer's own account."""

    def __init__(self, edge: HttpEdge) -> None:
        self._me = edge.route("GET", "/api/users/me")
        self._change = edge.route("PATCH", "/api/users/me")
        self._addresses = edge.route("GET", "/api/users/me/addresses")
        self._add_address = edge.route("POST", "/api/users/me/addresses")
        self._remove_address = edge.route("DELETE", "/api/users/me/addresses/{address_id}")

    async def profile(self) -> Profile:
        """The account."""
        return _read(Profile, await self._me())

    async def rename(self, name: str) -> None:
        """Changes the name."""
        await self._change(json={"name": name})

    async def join_beta(self, joins: bool) -> None:
        """Joins the beta programme, or leaves it."""
        await self._change(json={"beta": joins})

    async def addresses(self) -> Sequence[AddressBookEntry]:
        """The address book."""
        return _read(_Addresses, await self._addresses()).items

    async def add_address(self, address: PostalAddress) -> AddressBookEntry:
        """Adds to the address book."""
        return _read(AddressBookEntry, await self._add_address(json=address.model_dump()))

    async def remove_address(self, address_id: str) -> None:
        """Removes from the address book."""
        await self._remove_address(path={"address_id": address_id})


class ProductClient:
    """The catalogue. A cart's lines come in one call, however many there are."""

    def __init__(self, edge: HttpEdge, rpcs: GrpcEdge) -> None:
        self._page = edge.route("GET", "/api/products")
        self._product = edge.route("GET", "/api/products/{product_id}")
        self._categories = edge.route("GET", "/api/categories")
        self._picture = edge.route("GET", "/api/products/{product_id}/picture")
        self._articles = rpcs.rpc(
            "meshmart.product.v1.ProductService/GetProducts",
            product_pb2.GetProductsRequest,
            product_pb2.GetProductsResponse,
        )

    async def page(
        self,
        *,
        query: str = "",
        category: str = "",
        sort: str = "",
        filters: Filters = NO_FILTERS,
        limit: int,
        cursor: str = "",
        arrivals: int = 0,
    ) -> CataloguePage:
        """Some products. INVALID for a cursor or a sort order that the catalogue does not know.

        :param arrivals: how many of the newest products to get with them.
        """
        wanted = {"q": query, "category": category, "sort": sort, "cursor": cursor}
        chosen: dict[str, str | int] = {name: value for name, value in wanted.items() if value}
        if filters.min_price_cents is not None:
            chosen["min_price_cents"] = filters.min_price_cents
        if filters.max_price_cents is not None:
            chosen["max_price_cents"] = filters.max_price_cents
        if filters.in_stock:
            chosen["in_stock"] = "true"
        if arrivals:
            chosen["arrivals"] = arrivals
        return _read(CataloguePage, await self._page(query={**chosen, "limit": limit}))

    async def product(self, product_id: str, *, related: int) -> ProductWithRelated:
        """One product, with others of its department. NOT_FOUND when there is none.

        :param related: how many others at most.
        """
        answer = await self._product(path={"product_id": product_id}, query={"related": related})
        return _read(ProductWithRelated, answer)

    async def categories(self) -> Sequence[Department]:
        """The departments, in the shop's order."""
        return _read(_Categories, await self._categories()).items

    async def picture(self, product_id: str) -> HttpReply:
        """A product's picture, as SVG."""
        return await self._picture(path={"product_id": product_id})

    async def articles(self, product_ids: Sequence[str]) -> dict[str, Article]:
        wanted = list(product_ids)
        while wanted:
            try:
                answer = await self._articles(product_pb2.GetProductsRequest(product_ids=wanted))
            except ShopError as error:
                unknown = error.fields.get("product_id")
                if error.kind is not Kind.NOT_FOUND or unknown not in wanted:
                    raise
                wanted.remove(unknown)
                continue
            return {
                product.product_id: Article(
                    product_id=product.product_id,
                    name=product.name,
                    price=Money.of_message(product.price),
                    weight_grams=product.weight_grams,
                )
                for product in answer.products
            }
        return {}


class InventoryClient:
    """The stock."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._stock = edge.rpc(
            "meshmart.inventory.v1.InventoryService/GetStock",
            inventory_pb2.GetStockRequest,
            inventory_pb2.GetStockResponse,
        )

    async def stock(self, product_ids: Sequence[str]) -> dict[str, int]:
        """How many of each product can be ordered now."""
        answer = await self._stock(inventory_pb2.GetStockRequest(product_ids=product_ids))
        return {stock.product_id: stock.available for stock in answer.stock}


class OrderClient:
    """The customer's orders."""

    def __init__(self, edge: HttpEdge) -> None:
        self._place = edge.route("POST", "/api/orders")
        self._history = edge.route("GET", "/api/orders")
        self._order = edge.route("GET", "/api/orders/{order_id}")
        self._cancel = edge.route("POST", "/api/orders/{order_id}/cancel")

    async def place(self, draft: Draft, *, payment_method: str, shipping: str) -> CustomerOrder:
        """Places the order of a draft, once. DECLINED when the payment was, CONFLICT when something
        is sold out, or dearer than the draft's page has shown.
        """
        reply = await self._place(
            json={
                "items": [line.model_dump() for line in draft.lines],
                "address": draft.address.model_dump(),
                "payment_method": payment_method,
                "shipping": shipping,
                "expected_total_cents": draft.shown_totals.get(shipping),
            },
            headers={"idempotency-key": draft.idempotency_key},
        )
        return _read(CustomerOrder, reply)

    async def history(
        self, *, query: str, attempts: bool | None, limit: int, cursor: str
    ) -> OrderHistoryPage:
        """Some of the orders that are about `query`, newest first.

        :param attempts: True for only the attempts, False for all but those.
        """
        asked: dict[str, str | int] = {"limit": limit}
        if attempts is not None:
            asked["attempts"] = str(attempts).lower()
        wanted = {"q": query, "cursor": cursor}
        asked |= {name: value for name, value in wanted.items() if value}
        return _read(OrderHistoryPage, await self._history(query=asked))

    async def order(self, order_id: str) -> CustomerOrder:
        """One order. NOT_FOUND when it is not the customer's own."""
        return _read(CustomerOrder, await self._order(path={"order_id": order_id}))

    async def cancel(self, order_id: str) -> CustomerOrder:
        """Cancels an order. CONFLICT when it is too late."""
        return _read(CustomerOrder, await self._cancel(path={"order_id": order_id}))


class ShippingClient:
    """Delivery."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._quotes = edge.rpc(
            "meshmart.shipping.v1.ShippingService/GetQuotes",
            shipping_pb2.GetQuotesRequest,
            shipping_pb2.GetQuotesResponse,
        )
        self._shipment = edge.rpc(
            "meshmart.shipping.v1.ShippingService/GetShipment",
            shipping_pb2.GetShipmentRequest,
            shipping_pb2.Shipment,
        )

    async def quotes(self, *, country: str, weight_grams: int) -> Sequence[DeliveryQuote]:
        """What a parcel costs, cheapest first."""
        answer = await self._quotes(
            shipping_pb2.GetQuotesRequest(country=country, weight_grams=weight_grams)
        )
        return [
            DeliveryQuote(
                service=quote.service,
                price=Money.of_message(quote.price),
                days_min=quote.days_min,
                days_max=quote.days_max,
            )
            for quote in answer.quotes
        ]

    async def shipment(self, order_id: str) -> Parcel | None:
        """The parcel of an order; None while there is none."""
        try:
            answer = await self._shipment(shipping_pb2.GetShipmentRequest(order_id=order_id))
        except ShopError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise
        return Parcel(
            state=_shipment_state(answer.state),
            tracking_number=answer.tracking_number,
            history=tuple(
                TrackingEvent(
                    state=_shipment_state(event.state),
                    at=from_milliseconds(event.at_ms),
                    place=event.place,
                )
                for event in answer.history
            ),
        )


class NotificationClient:
    """The customer's inbox."""

    def __init__(self, edge: HttpEdge) -> None:
        self._inbox = edge.route("GET", "/api/notifications")

    async def inbox(self, *, limit: int, cursor: str) -> InboxPage:
        """Some of the messages, newest first."""
        query: dict[str, str | int] = {"limit": limit}
        if cursor:
            query["cursor"] = cursor
        return _read(InboxPage, await self._inbox(query=query))


def _visitors_address() -> dict[str, str]:
    return {FORWARDED_FOR: context.current().client_address}


def _shipment_state(state: shipping_pb2.ShipmentState.ValueType) -> str:
    name = shipping_pb2.ShipmentState.Name(state)
    return name.removeprefix("SHIPMENT_STATE_").lower().replace("_", "-")


def _read(model: type[Answer], reply: HttpReply) -> Answer:
    try:
        return model.model_validate(reply.json())
    except ValidationError as error:
        raise ShopError(
            Kind.UNAVAILABLE,
            error_codes.BAD_ANSWER,
            "A part of the shop gave an answer that we do not understand.",
        ) from error
