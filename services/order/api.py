"""The HTTP API of the order service."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.common.dependency_injection import provided
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields, NewAddress
from services.common.identity.caller_dependency import CallerDependency
from services.common.limits import MAX_CURSOR_LENGTH, MAX_LINES, MAX_QUERY_LENGTH
from services.common.protocols.problem import documented
from services.order.model import BY_CUSTOMER, Order, OrderState, PlaceOrder, fingerprint_of
from services.order.service import Orders

_IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The client's own, one per order: the same request again is the same order.",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]
_OrderId = Annotated[
    str, Path(pattern=r"^ord_[a-z2-7]{24}$", examples=["ord_mfrggzdfmztwq2lkmfrggzdf"])
]


class Item(BaseModel):
    """What to buy."""

    model_config = ConfigDict(extra="forbid")

    # Wider than what an id is: one that no product has is unknown-product, not invalid-request.
    product_id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", examples=["oak-serving-board"])
    quantity: int = Field(ge=1, le=99, strict=True, examples=[2])


class NewOrder(BaseModel):
    """An order to place. Prices are the shop's, never the client's."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item] = Field(min_length=1, max_length=MAX_LINES)
    address: NewAddress
    payment_method: str = Field(
        pattern=r"^pm_[A-Za-z0-9_]{1,60}$",
        description="A Stripe payment method; in test mode one such as `pm_card_visa`.",
        examples=["pm_card_visa"],
    )
    shipping: Literal["standard", "express"] = "standard"
    expected_total_cents: int | None = Field(
        default=None,
        ge=0,
        strict=True,
        description="What the customer was shown. A higher total is refused (total-changed).",
        examples=[7485],
    )


class LineView(BaseModel):
    """One line of an order."""

    product_id: str = Field(examples=["oak-serving-board"])
    name: str = Field(examples=["Oak Serving Board"])
    quantity: int = Field(examples=[2])
    unit_price_cents: int = Field(examples=[3495])
    total_cents: int = Field(examples=[6990])


class ReasonView(BaseModel):
    """Why an order was cancelled."""

    code: str = Field(examples=["insufficient-funds"])
    detail: str = Field(examples=["Your card has insufficient funds."])


class MomentView(BaseModel):
    """An entry of an order's history."""

    at: datetime
    what: str = Field(examples=["reserve"])


class OrderView(BaseModel):
    """An order as its customer sees it."""

    order_id: str = Field(examples=["ord_mfrggzdfmztwq2lkmfrggzdf"])
    state: OrderState
    is_attempt: bool = Field(
        description="It was cancelled without ever having been confirmed: no order was placed, and "
        "the customer pays nothing, unless `refund_failed` or `refund_disputed` says so."
    )
    reason: ReasonView | None
    refund_failed: bool = Field(
        description="The money was paid back, and the bank did not take it: the shop pays it back "
        "another way."
    )
    refund_disputed: bool = Field(
        description="The charge was disputed before the order was cancelled: the bank decides who "
        "gets the money, and the shop does not pay it back as well."
    )
    lines: list[LineView]
    items_cents: int = Field(examples=[6990])
    shipping_cents: int = Field(examples=[495])
    total_cents: int = Field(examples=[7485])
    currency: str = Field(examples=["EUR"])
    address: AddressFields
    shipping: str = Field(examples=["standard"])
    payment_method: str = Field(examples=["pm_card_visa"])
    created_at: datetime
    history: list[MomentView]


class OrderPage(BaseModel):
    """Some of a user's orders, newest first."""

    items: list[OrderView]
    next_cursor: str | None


_Orders = Annotated[Orders, provided(Orders)]

router = APIRouter(prefix="/api/orders", tags=["orders"])


@router.post(
    "",
    status_code=201,
    operation_id="place_order",
    summary="Place an order",
    response_model=OrderView,
    responses={
        **documented(Kind.UNAUTHENTICATED, Kind.DECLINED, Kind.CONFLICT),
        200: {"model": OrderView, "description": "The order of this key, cancelled since"},
        202: {"model": OrderView, "description": "Accepted; it is still being worked on"},
    },
)
async def place_order(
    body: NewOrder,
    idempotency_key: _IdempotencyKey,
    caller: CallerDependency,
    response: Response,
    orders: _Orders,
) -> OrderView:
    command = PlaceOrder(
        user_id=caller.user_id,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint_of(body, without=frozenset({"expected_total_cents"})),
        quantities=_merged(body.items),
        address=body.address.to_fields(),
        shipping_service=body.shipping,
        payment_method=body.payment_method,
        expected_total_cents=body.expected_total_cents,
    )
    order = await orders.place(command)
    _raise_if_refused(order)
    if not order.is_settled:
        response.status_code = 202
    elif order.state is OrderState.CANCELLED:
        response.status_code = 200
    return _view(order)


@router.get(
    "",
    operation_id="list_orders",
    summary="List my orders",
    response_model=OrderPage,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def list_orders(
    caller: CallerDependency,
    orders: _Orders,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR_LENGTH)] = None,
    attempts: Annotated[
        bool | None,
        Query(description="true: only attempts (is_attempt); false: all but those"),
    ] = None,
    q: Annotated[
        str,
        Query(
            max_length=MAX_QUERY_LENGTH,
            description="An order's number or a part of it, or words of a product's name",
            examples=["oak board"],
        ),
    ] = "",
) -> OrderPage:
    page = await orders.history(caller.user_id, limit, cursor, attempts=attempts, query=q)
    return OrderPage(
        items=[_view(stored.value) for stored in page.items], next_cursor=page.next_cursor
    )


@router.get(
    "/{order_id}",
    operation_id="get_order",
    summary="Show one of my orders",
    response_model=OrderView,
    responses=documented(Kind.UNAUTHENTICATED, Kind.NOT_FOUND),
)
async def get_order(order_id: _OrderId, caller: CallerDependency, orders: _Orders) -> OrderView:
    return _view(await orders.get(caller.user_id, order_id))


@router.post(
    "/{order_id}/cancel",
    operation_id="cancel_order",
    summary="Cancel an order that is not on its way yet",
    response_model=OrderView,
    responses={
        **documented(Kind.UNAUTHENTICATED, Kind.NOT_FOUND, Kind.CONFLICT),
        202: {"model": OrderView, "description": "Accepted; the refund is under way"},
    },
)
async def cancel_order(
    order_id: _OrderId, caller: CallerDependency, response: Response, orders: _Orders
) -> OrderView:
    order = await orders.cancel(caller.user_id, order_id)
    if not order.is_settled:
        response.status_code = 202
    return _view(order)


def _merged(items: list[Item]) -> Counter[str]:
    quantities = Counter[str]()
    for item in items:
        quantities[item.product_id] += item.quantity
    return quantities


def _raise_if_refused(order: Order) -> None:
    """A cancelled checkout is an error to whoever placed it; one that the customer cancelled later
    is not.
    """
    reason = order.reason
    if order.state is OrderState.CANCELLED and reason is not None and reason.code != BY_CUSTOMER:
        raise ShopError(
            reason.kind, reason.code, reason.detail, fields={**reason.fields, "order_id": order.id}
        )


def _view(order: Order) -> OrderView:
    return OrderView(
        order_id=order.id,
        state=order.state,
        is_attempt=order.is_attempt,
        reason=ReasonView(code=order.reason.code, detail=order.reason.detail)
        if order.reason
        else None,
        refund_failed=order.refund_failed,
        refund_disputed=order.refund_disputed,
        lines=[
            LineView(
                product_id=line.product_id,
                name=line.name,
                quantity=line.quantity,
                unit_price_cents=line.unit_price_cents,
                total_cents=line.total_cents,
            )
            for line in order.lines
        ],
        items_cents=order.items_cents,
        shipping_cents=order.shipping_cents,
        total_cents=order.total_cents,
        currency=order.currency,
        address=order.address,
        shipping=order.shipping_service,
        payment_method=order.payment_method,
        created_at=_time(order.created_ms),
        history=[MomentView(at=_time(moment.at_ms), what=moment.what) for moment in order.history],
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
