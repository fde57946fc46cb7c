"""The other services as the frontend sees them: real servers that say what a test wants.

They stand in the real topology, so only declared calls reach them, and their answers bear real call
records.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import grpc.aio
from fastapi import APIRouter, Depends, Header, Request, Response
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from services.common import context
from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import AUDIENCE, ISSUER
from services.common.listening import LOOPBACK
from services.common.serving.host import Host, Wire
from services.common.settings import ProcessSettings
from services.common.topology import Topology
from services.local.ports import Ports
from services.pb import (
    inventory_pb2,
    inventory_pb2_grpc,
    product_pb2,
    product_pb2_grpc,
    shared_pb2,
    shipping_pb2,
    shipping_pb2_grpc,
)
from tests.testkit.customer import PASSWORD, Person
from tests.unit.serving import running_service

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'
ADA = Person(email="ada@example.com")
WEAK_PASSWORD = "password123"
SECRET = "a secret of the tests, long enough to sign with"
CODE = "the-code-of-a-mailed-link"
MAX_LINK_MAILS = 2


@dataclass(frozen=True, slots=True)
class SeenCall:
    """A request as a service saw it."""

    service: str
    operation: str
    headers: Mapping[str, str]
    body: Any = None


def product(product_id: str, **changes: Any) -> dict[str, Any]:
    """A product as the catalogue answers it."""
    return {
        "id": product_id,
        "name": product_id.replace("-", " ").title(),
        "category": "kitchen",
        "brand": "Hearth & Fable",
        "blurb": "A thing of use.",
        "description": "It is of use.",
        "price_cents": 2495,
        "currency": "EUR",
        "available": 40,
        "version": "v1",
        "rating": 4.5,
        "reviews": 12,
        "details": {"Material": "Oak"},
        "weight_grams": 500,
        **changes,
    }


Facts = dict[str, Any]
_NAMES = ("oak-board", "tin-kettle", "red-lamp")


@dataclass(slots=True)
class Backends:
    """What all services know and do, for a test to set. At first everything works, the shop sells
    three things, and nobody has done anything yet.
    """

    signing_key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", auto_kid=True))
    products: dict[str, Facts] = field(default_factory=lambda: {n: product(n) for n in _NAMES})
    categories: list[Facts] = field(
        default_factory=lambda: [{"id": "kitchen", "name": "Kitchen", "blurb": "For cooks."}]
    )
    expected_totals: list[int | None] = field(default_factory=list[int | None])
    queries: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    corrections: dict[str, str] = field(default_factory=dict[str, str])
    is_too_heavy: bool = False
    stock: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_NAMES, 40))
    profile: Facts = field(
        default_factory=lambda: {
            "email": ADA.email,
            "name": ADA.name,
            "groups": [],
            "is_guest": False,
        }
    )
    addresses: list[Facts] = field(default_factory=list[Facts])
    orders: dict[str, Facts] = field(default_factory=dict[str, Facts])
    messages: list[Facts] = field(default_factory=list[Facts])
    mail: str = "off"
    link_mails: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    refresh_tokens: set[str] = field(default_factory=set[str])
    replaced_tokens: dict[str, str] = field(default_factory=dict[str, str])
    shipment: shipping_pb2.Shipment | None = None
    order_refusal: ShopError | None = None
    entrance_refusal: ShopError | None = None
    user_refusal: ShopError | None = None
    order_state: str = "confirmed"
    down: set[str] = field(default_factory=set[str])
    distrustful: set[str] = field(default_factory=set[str])
    seen: list[SeenCall] = field(default_factory=list[SeenCall])

    def reset(self) -> None:
        """Makes all of it new, but for the key that tokens are signed with."""
        new = Backends(self.signing_key)
        for each in fields(self):
            setattr(self, each.name, getattr(new, each.name))

    def calls_of(self, operation: str) -> list[SeenCall]:
        """The requests that were made for one operation."""
        return [seen for seen in self.seen if seen.operation == operation]

    def access_token(self, **changes: Any) -> str:
        """A token as auth signs it; changes may make it one that it would not."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "usr_ada",
            "email": "" if self.profile["is_guest"] else self.profile["email"],
            "name": self.profile["name"],
            "groups": self.profile["groups"],
            "exp": time.time() + 900,
            **changes,
        }
        header = {"alg": "ES256", "kid": self.signing_key.kid}
        return jwt.encode(header, claims, self.signing_key)

    def tokens(self, refresh_token: str | None = None) -> dict[str, Any]:
        """What auth answers to a log-in, or to a repeated use of a refresh token."""
        refresh_token = refresh_token or f"ses_{uuid.uuid4().hex}.{uuid.uuid4().hex}"
        self.refresh_tokens.add(refresh_token)
        return {
            "access_token": self.access_token(),
            "refresh_token": refresh_token,
            "device_token": f"dev_{uuid.uuid4().hex}",
            "token_type": "Bearer",
            "expires_in": 900,
        }

    def order_of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """An order as the order service answers it."""
        lines = [
            {
                **item,
                "name": self.products[item["product_id"]]["name"],
                "unit_price_cents": 2495,
                "total_cents": 2495 * item["quantity"],
            }
            for item in body["items"]
        ]
        items_cents = sum(line["total_cents"] for line in lines)
        return {
            "order_id": f"ord_{uuid.uuid4().hex[:24]}",
            "state": self.order_state,
            "is_attempt": False,
            "reason": None,
            "lines": lines,
            "items_cents": items_cents,
            "shipping_cents": 495,
            "total_cents": items_cents + 495,
            "currency": "EUR",
            "address": body["address"],
            "shipping": body["shipping"],
            "payment_method": body["payment_method"],
            "created_at": "2026-11-23T20:15:00Z",
            "history": [],
        }

    def note(self, service: str, operation: str, headers: Mapping[str, str], body: Any) -> None:
        """Keeps a request, and refuses it while the service is down or takes no token."""
        self.seen.append(SeenCall(service, operation, headers, body))
        if service in self.down:
            raise ShopError(Kind.UNAVAILABLE, f"{service}-unavailable", f"{service} is away.")
        if service in self.distrustful:
            raise ShopError(Kind.UNAUTHENTICATED, "invalid-token", "Please log in.")

    def note_rpc(self, service: str, method: str, call: grpc.aio.ServicerContext[Any, Any]) -> None:
        """The same for an RPC."""
        metadata = call.invocation_metadata() or ()
        headers = {key: value for key, value in metadata if isinstance(value, str)}
        self.note(service, method, headers, None)


def _router(backends: Backends, service: str) -> APIRouter:
    async def note(request: Request) -> None:
        operation = f"{request.method} {request.url.path}"
        body = await request.body()
        backends.note(service, operation, dict(request.headers), body)

    return APIRouter(dependencies=[Depends(note)])


def _check_guest(backends: Backends, body: Mapping[str, str]) -> None:
    if body["refresh_token"] not in backends.refresh_tokens:
        raise ShopError(Kind.UNAUTHENTICATED, "session-ended", "This session has ended.")
    if not backends.profile["is_guest"]:
        raise ShopError(Kind.CONFLICT, "not-a-guest", "It has a password.")


def _check_free(body: Mapping[str, str]) -> None:
    if body["email"] == "taken@example.com":
        raise ShopError(Kind.CONFLICT, "email-taken", "There is such an account.")


def _check_new(password: str) -> None:
    if password == WEAK_PASSWORD:
        raise ShopError(Kind.INVALID, "weak-password", "Everybody would try that.")


def _passwords(backends: Backends, routes: APIRouter) -> None:
    """What auth offers for passwords and addresses."""

    @routes.post("/api/auth/password")
    async def change_password(body: dict[str, str]) -> Any:
        if body["password"] != PASSWORD:
            raise ShopError(Kind.UNAUTHENTICATED, "wrong-credentials", "Not so.")
        if body["new_password"] == body["password"]:
            raise ShopError(Kind.INVALID, "same-password", "This is the password that you have.")
        _check_new(body["new_password"])
        backends.refresh_tokens.clear()
        return backends.tokens()

    @routes.post("/api/auth/password/mail", status_code=202)
    async def mail_password_link(body: dict[str, str]) -> None:
        _keep_link_mail("password", body["email"])

    @routes.post("/api/auth/password/reset", status_code=204)
    async def reset_password(body: dict[str, str]) -> None:
        _check_code(body)
        _check_new(body["new_password"])
        backends.refresh_tokens.clear()

    @routes.post("/api/auth/address/mail", status_code=202)
    async def mail_address_link(body: dict[str, str]) -> None:
        _keep_link_mail("address", body["email"])

    @routes.post("/api/auth/guest/address", status_code=204)
    async def change_guest_email(body: dict[str, str]) -> None:
        _check_guest(backends, body)
        if body["email"] == backends.profile["email"]:
            return
        backends.profile["email"] = body["email"]
        _keep_link_mail("guest", body["email"])

    @routes.post("/api/auth/guest/address/mail", status_code=202)
    async def mail_guest_link(body: dict[str, str]) -> None:
        _check_guest(backends, body)
        _keep_link_mail("guest", backends.profile["email"])

    @routes.post("/api/auth/address/confirm", status_code=204)
    async def confirm_address(body: dict[str, str]) -> None:
        _check_code(body)
        backends.mail = "on"

    def _keep_link_mail(kind: str, email: str) -> None:
        if len(backends.link_mails) >= MAX_LINK_MAILS:
            raise ShopError(
                Kind.THROTTLED, "too-many-mails", "Too many mails.", retry_after_seconds=90
            )
        backends.link_mails.append((kind, email))

    def _check_code(body: dict[str, str]) -> None:
        if body["code"] != CODE:
            raise ShopError(
                Kind.INVALID, "link-over", "This code is wrong, or it is no longer valid."
            )


# The query parameters of the services that the fakes take and leave.


async def _paging(limit: int = 0, cursor: str = "") -> None: ...


async def _parcel(country: str = "", weight_grams: int = 0) -> None: ...


async def _filters(
    category: str = "",
    sort: str = "",
    min_price_cents: int = 0,
    max_price_cents: int = 0,
    in_stock: str = "",
) -> None: ...


def _auth(backends: Backends) -> APIRouter:
    routes = _router(backends, "auth")

    @routes.get("/.well-known/jwks.json")
    async def keys() -> Any:
        return KeySet([backends.signing_key]).as_dict(private=False)

    @routes.post("/api/auth/register", status_code=201)
    async def register(body: dict[str, str]) -> Any:
        if backends.entrance_refusal is not None:
            raise backends.entrance_refusal
        _check_free(body)
        if backends.user_refusal is not None:
            raise backends.user_refusal
        backends.profile |= {"email": body["email"], "name": body["name"]}
        return backends.tokens()

    @routes.post("/api/auth/guest", status_code=201)
    async def open_guest(body: dict[str, str]) -> Any:
        backends.profile |= {"email": body["email"], "name": body["name"], "is_guest": True}
        return backends.tokens()

    @routes.post("/api/auth/guest/keep")
    async def keep_guest(body: dict[str, str]) -> Any:
        _check_guest(backends, body)
        _check_free(body)
        _check_new(body["password"])
        backends.profile |= {"email": body["email"], "is_guest": False}
        return backends.tokens()

    @routes.post("/api/auth/login")
    async def log_in(body: dict[str, str]) -> Any:
        if backends.entrance_refusal is not None:
            raise backends.entrance_refusal
        if body["password"] != PASSWORD:
            raise ShopError(Kind.UNAUTHENTICATED, "wrong-credentials", "Not so.")
        backends.profile["is_guest"] = False
        return backends.tokens()

    @routes.post("/api/auth/refresh")
    async def refresh(body: dict[str, str]) -> Any:
        await asyncio.sleep(0.02)  # long enough for requests that come together to meet here
        shown = body["refresh_token"]
        successor = backends.replaced_tokens.get(shown)
        if successor in backends.refresh_tokens:
            return backends.tokens(successor)
        if shown not in backends.refresh_tokens:
            raise ShopError(Kind.UNAUTHENTICATED, "session-ended", "This session has ended.")
        backends.refresh_tokens.remove(shown)
        tokens = backends.tokens(f"{shown.partition('.')[0]}.{uuid.uuid4().hex}")
        backends.replaced_tokens[shown] = tokens["refresh_token"]
        return tokens

    @routes.post("/api/auth/logout", status_code=204)
    async def log_out(body: dict[str, str]) -> None:
        session = body["refresh_token"].partition(".")[0]
        backends.refresh_tokens -= {
            token for token in backends.refresh_tokens if token.partition(".")[0] == session
        }

    _passwords(backends, routes)

    return routes


def _user(backends: Backends) -> APIRouter:
    routes = _router(backends, "user")

    @routes.get("/api/users/me")
    async def me() -> Any:
        return backends.profile

    @routes.patch("/api/users/me")
    async def change(body: dict[str, Any]) -> Any:
        if backends.user_refusal is not None:
            raise backends.user_refusal
        if "name" in body:
            backends.profile["name"] = body["name"]
        if "beta" in body:
            backends.profile["groups"] = ["beta"] if body["beta"] else []
        return backends.profile

    @routes.get("/api/users/me/addresses")
    async def addresses() -> Any:
        return {"items": backends.addresses}

    @routes.post("/api/users/me/addresses", status_code=201)
    async def add_address(body: dict[str, Any]) -> Any:
        if backends.user_refusal is not None:
            raise backends.user_refusal
        saved = {**body, "id": f"adr_{len(backends.addresses)}"}
        backends.addresses.append(saved)
        return saved

    @routes.delete("/api/users/me/addresses/{address_id}", status_code=204)
    async def remove_address(address_id: str) -> None:
        backends.addresses = [one for one in backends.addresses if one["id"] != address_id]

    return routes


_Call = grpc.aio.ServicerContext[Any, Any]


class _Rpc:
    def __init__(self, backends: Backends) -> None:
        self._backends = backends


class _ProductRpc(_Rpc, product_pb2_grpc.ProductServiceServicer):
    async def GetProducts(
        self, request: product_pb2.GetProductsRequest, context: _Call
    ) -> product_pb2.GetProductsResponse:
        self._backends.note_rpc("product", "GetProducts", context)
        answer = product_pb2.GetProductsResponse()
        for product_id in request.product_ids:
            known = self._backends.products.get(product_id)
            if known is None:
                facts = {"product_id": product_id}
                raise ShopError(Kind.NOT_FOUND, "unknown-product", "No such.", fields=facts)
            answer.products.append(
                product_pb2.Product(
                    product_id=product_id,
                    name=known["name"],
                    price=shared_pb2.Money(cents=known["price_cents"], currency="EUR"),
                    weight_grams=known["weight_grams"],
                )
            )
        return answer


def _product(backends: Backends) -> APIRouter:
    routes = _router(backends, "product")

    @routes.get("/api/products", dependencies=[Depends(_filters)])
    async def page(
        request: Request, limit: int, q: str = "", cursor: str = "", arrivals: int = 0
    ) -> Any:
        backends.queries.append(dict(request.query_params))
        if cursor == "broken":
            raise ShopError(Kind.INVALID, "invalid-cursor", "This cursor is not one of ours.")
        wanted = backends.corrections.get(q, q)
        found = [one for one in backends.products.values() if wanted.lower() in one["name"].lower()]
        start = int(cursor or 0)
        return {
            "items": found[start : start + limit],
            "next_cursor": str(start + limit) if len(found) > start + limit else None,
            "suggestion": backends.corrections.get(q),
            "arrivals": list(backends.products.values())[-arrivals:] if arrivals else [],
        }

    @routes.get("/api/products/{product_id}")
    async def one(product_id: str, related: int = 0) -> Any:
        if product_id not in backends.products:
            raise ShopError(Kind.NOT_FOUND, "unknown-product", "There is no such product.")
        others = [one for one in backends.products.values() if one["id"] != product_id]
        return {**backends.products[product_id], "related": others[:related]}

    @routes.get("/api/products/{product_id}/picture")
    async def picture(product_id: str) -> Response:
        return Response(SVG, media_type="image/svg+xml")

    @routes.get("/api/categories")
    async def categories() -> Any:
        return {"items": backends.categories}

    return routes


def _order(backends: Backends) -> APIRouter:
    routes = _router(backends, "order")

    @routes.post("/api/orders", status_code=201)
    async def place(body: dict[str, Any], idempotency_key: Annotated[str, Header()]) -> Any:
        backends.expected_totals.append(body.pop("expected_total_cents"))
        if backends.order_refusal is not None:
            raise backends.order_refusal
        for order in backends.orders.values():
            if order["key"] == idempotency_key:
                return order
        order = {**backends.order_of(body), "key": idempotency_key}
        backends.orders[order["order_id"]] = order
        return order

    @routes.get("/api/orders", dependencies=[Depends(_paging)])
    async def history(attempts: bool | None = None, q: str = "") -> Any:
        found = [
            order
            for order in backends.orders.values()
            if attempts in {None, order["is_attempt"]} and q in str(order)
        ]
        return {"items": found, "next_cursor": None}

    @routes.get("/api/orders/{order_id}")
    async def one(order_id: str) -> Any:
        if order_id not in backends.orders:
            raise ShopError(Kind.NOT_FOUND, "unknown-order", "There is no such order.")
        return backends.orders[order_id]

    @routes.post("/api/orders/{order_id}/cancel")
    async def cancel(order_id: str) -> Any:
        order = backends.orders[order_id]
        if order["state"] != "confirmed":
            raise ShopError(Kind.CONFLICT, "order-cancelled", "This order is cancelled already.")
        order["state"] = "cancelled"
        return order

    return routes


def _notification(backends: Backends) -> APIRouter:
    routes = _router(backends, "notification")

    @routes.get("/api/notifications", dependencies=[Depends(_paging)])
    async def inbox() -> Any:
        return {"items": backends.messages, "next_cursor": None, "mail": backends.mail}

    return routes


class _InventoryRpc(_Rpc, inventory_pb2_grpc.InventoryServiceServicer):
    async def GetStock(
        self, request: inventory_pb2.GetStockRequest, context: _Call
    ) -> inventory_pb2.GetStockResponse:
        self._backends.note_rpc("inventory", "GetStock", context)
        return inventory_pb2.GetStockResponse(
            stock=[
                inventory_pb2.Stock(product_id=one, available=self._backends.stock.get(one, 0))
                for one in request.product_ids
            ]
        )


class _ShippingRpc(_Rpc, shipping_pb2_grpc.ShippingServiceServicer):
    async def GetQuotes(
        self, request: shipping_pb2.GetQuotesRequest, context: _Call
    ) -> shipping_pb2.GetQuotesResponse:
        self._backends.note_rpc("shipping", "GetQuotes", context)
        if self._backends.is_too_heavy:
            raise ShopError(Kind.INVALID, "weight-out-of-range", "We ship parcels of up to 30 kg.")
        prices = {"standard": 495, "express": 1195}
        return shipping_pb2.GetQuotesResponse(
            quotes=[
                shipping_pb2.Quote(
                    service=service,
                    price=shared_pb2.Money(cents=cents, currency="EUR"),
                    days_min=1,
                    days_max=2,
                )
                for service, cents in prices.items()
            ]
        )

    async def GetShipment(
        self, request: shipping_pb2.GetShipmentRequest, context: _Call
    ) -> shipping_pb2.Shipment:
        self._backends.note_rpc("shipping", "GetShipment", context)
        if self._backends.shipment is None:
            raise ShopError(Kind.NOT_FOUND, "unknown-shipment", "There is no such shipment.")
        return self._backends.shipment


def _shipping(backends: Backends) -> APIRouter:
    routes = _router(backends, "shipping")

    @routes.get("/api/shipping/quotes", dependencies=[Depends(_parcel)])
    async def quotes() -> Any:
        return {"items": [], "request_id": context.current().request_id}

    return routes


_ROUTES: Mapping[str, Callable[[Backends], APIRouter]] = {
    "auth": _auth,
    "user": _user,
    "product": _product,
    "order": _order,
    "notification": _notification,
    "shipping": _shipping,
}
# How a servicer is added, its class (of inventory and shipping with only what the frontend calls,
# where the generated base class asks for all), and its name.
_RPCS: Mapping[str, tuple[Any, Any, str]] = {
    "product": (
        product_pb2_grpc.add_ProductServiceServicer_to_server,
        _ProductRpc,
        "meshmart.product.v1.ProductService",
    ),
    "inventory": (
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server,
        _InventoryRpc,
        "meshmart.inventory.v1.InventoryService",
    ),
    "shipping": (
        shipping_pb2_grpc.add_ShippingServiceServicer_to_server,
        _ShippingRpc,
        "meshmart.shipping.v1.ShippingService",
    ),
}


def _wire(name: str, backends: Backends) -> Wire:
    async def wire(host: Host) -> None:
        if name in _ROUTES:
            host.serve_http(_ROUTES[name](backends))
        if name in _RPCS:
            add, servicer, rpc_name = _RPCS[name]
            host.serve_grpc(add, servicer(backends), rpc_name)

    return wire


@dataclass(frozen=True, slots=True)
class BackendAddresses:
    """Where the services listen."""

    http: dict[str, tuple[str, ...]]
    grpc: dict[str, tuple[str, ...]]


@asynccontextmanager
async def running_backends(
    backends: Backends, topology: Topology
) -> AsyncGenerator[BackendAddresses]:
    """Runs all of them."""
    http: dict[str, tuple[str, ...]] = {}
    rpc: dict[str, tuple[str, ...]] = {}
    async with AsyncExitStack() as stack:
        # What nobody answers, payment's for one, refuses connections as long as all this runs.
        ports = stack.enter_context(closing(Ports({}, any_free=True)))
        for position, name in enumerate(topology.services):
            http[name] = (f"{LOOPBACK}:{ports.http(name)}",)
            rpc[name] = (f"{LOOPBACK}:{ports.grpc(name, position)}",)
        for name in _ROUTES.keys() | _RPCS.keys():
            process = ProcessSettings(
                host=LOOPBACK,
                http_port=int(http[name][0].rpartition(":")[2]),
                grpc_port=int(rpc[name][0].rpartition(":")[2]),
                http_addresses=http,
                grpc_addresses=rpc,
                instance=f"{name}-1",
                drain_seconds=0,
            )
            await stack.enter_async_context(
                running_service(name, _wire(name, backends), topology, process)
            )
        yield BackendAddresses(http, rpc)
