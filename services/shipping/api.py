"""The HTTP API of the shipping service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, Field

from services.common.delivery import MAX_PARCEL_GRAMS
from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.fields import SERVED_COUNTRIES, served_country
from services.common.identity.caller_dependency import CallerDependency
from services.common.money import CURRENCY
from services.common.protocols.problem import documented
from services.shipping import model
from services.shipping.model import ShipmentState
from services.shipping.service import Shipments


class QuoteView(BaseModel):
    """What one way of shipping costs and how long it takes."""

    service: str = Field(examples=["standard"])
    price_cents: int = Field(examples=[495])
    currency: str = Field(examples=["EUR"])
    days_min: int = Field(examples=[1])
    days_max: int = Field(examples=[2])


class Quotes(BaseModel):
    """The tariffs, cheapest first."""

    quotes: list[QuoteView]


class TrackingView(BaseModel):
    """An entry of the tracking history."""

    state: ShipmentState
    at: datetime
    place: str = Field(examples=["Sorting centre"])


class ShipmentView(BaseModel):
    """A parcel and its way so far."""

    order_id: str = Field(examples=["ord_mfrggzdfmztwq2lkmfrggzdf"])
    state: ShipmentState
    tracking_number: str = Field(examples=["MM0123456789NL"])
    service: str = Field(examples=["standard"])
    history: list[TrackingView]


_Shipments = Annotated[Shipments, provided(Shipments)]

router = APIRouter(prefix="/api/shipping", tags=["shipping"])


@router.get(
    "/quotes",
    operation_id="get_quotes",
    summary="What shipping costs",
    response_model=Quotes,
    responses=documented(),
)
async def get_quotes(
    country: Annotated[
        str,
        Query(pattern=r"^[A-Z]{2}$", description=SERVED_COUNTRIES, examples=["NL"]),
        AfterValidator(served_country),
    ],
    weight_grams: Annotated[int, Query(ge=1, le=MAX_PARCEL_GRAMS, examples=[1200])],
) -> Quotes:
    return Quotes(
        quotes=[
            QuoteView(
                service=quote.service,
                price_cents=quote.price_cents,
                currency=CURRENCY,
                days_min=quote.days_min,
                days_max=quote.days_max,
            )
            for quote in model.quotes(country, weight_grams)
        ]
    )


@router.get(
    "/orders/{order_id}",
    operation_id="get_shipment",
    summary="Where the parcel of one of my orders is",
    response_model=ShipmentView,
    responses=documented(Kind.UNAUTHENTICATED, Kind.NOT_FOUND),
)
async def get_shipment(
    order_id: Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9_]+$")],
    caller: CallerDependency,
    shipments: _Shipments,
) -> ShipmentView:
    shipment = await shipments.get(caller.user_id, order_id)
    return ShipmentView(
        order_id=shipment.id,
        state=shipment.state,
        tracking_number=shipment.tracking_number,
        service=shipment.service,
        history=[
            TrackingView(
                state=moment.state,
                at=datetime.fromtimestamp(moment.at_ms / 1000, UTC),
                place=moment.place,
            )
            for moment in shipment.history
        ],
    )
