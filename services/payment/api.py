"""The HTTP API of the payment service."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.identity.caller_dependency import CallerDependency
from services.common.protocols.problem import documented
from services.payment.model import PaymentState
from services.payment.service import Payments


class PaymentView(BaseModel):
    """The payment of an order, as its customer sees it."""

    order_id: str = Field(examples=["ord_mfrggzdfmztwq2lkmfrggzdf"])
    state: PaymentState = Field(
        description="`refund_failed`: the money was paid back, and the bank did not take it."
    )
    is_disputed: bool = Field(description="The card's owner wants the charge back from the bank.")
    amount_cents: int = Field(examples=[7485])
    currency: str = Field(examples=["EUR"])
    payment_method: str = Field(examples=["pm_card_visa"])


_Payments = Annotated[Payments, provided(Payments)]

router = APIRouter(prefix="/api/payments", tags=["payments"])


@router.get(
    "/{order_id}",
    operation_id="get_payment",
    summary="Show the payment of one of my orders",
    response_model=PaymentView,
    responses=documented(Kind.UNAUTHENTICATED, Kind.NOT_FOUND),
)
async def get_payment(
    order_id: Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9_]+$")],
    caller: CallerDependency,
    payments: _Payments,
) -> PaymentView:
    payment = await payments.get(caller.user_id, order_id)
    return PaymentView(
        order_id=payment.id,
        state=payment.state,
        is_disputed=payment.is_disputed,
        amount_cents=payment.amount_cents,
        currency=payment.currency,
        payment_method=payment.payment_method,
    )
