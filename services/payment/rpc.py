"""The gRPC side of the payment service."""

from __future__ import annotations

from typing import Any

from services.common.fields import checked_order_id
from services.common.money import Money
from services.payment.model import AuthorizePayment, Payment, PaymentState
from services.payment.service import Payments
from services.pb import payment_pb2 as pb
from services.pb import payment_pb2_grpc

_STATES = {
    PaymentState.AUTHORIZED: pb.PAYMENT_STATE_AUTHORIZED,
    PaymentState.CAPTURED: pb.PAYMENT_STATE_CAPTURED,
    PaymentState.DECLINED: pb.PAYMENT_STATE_DECLINED,
    PaymentState.VOIDED: pb.PAYMENT_STATE_VOIDED,
    PaymentState.REFUNDED: pb.PAYMENT_STATE_REFUNDED,
    PaymentState.DISPUTED: pb.PAYMENT_STATE_DISPUTED,
    PaymentState.REFUND_FAILED: pb.PAYMENT_STATE_REFUND_FAILED,
}


class PaymentRpc(payment_pb2_grpc.PaymentServiceServicer):
    """meshmart.payment.v1.PaymentService."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def Authorize(self, request: pb.AuthorizeRequest, context: Any) -> pb.Payment:
        command = AuthorizePayment(
            order_id=checked_order_id(request.order_id),
            user_id=request.user_id,
            amount_cents=request.amount.cents,
            currency=request.amount.currency,
            payment_method=request.payment_method,
        )
        return _message(await self._payments.authorize(command))

    async def Capture(self, request: pb.CaptureRequest, context: Any) -> pb.Payment:
        return _message(await self._payments.capture(checked_order_id(request.order_id)))

    async def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.Payment:
        return _message(await self._payments.cancel(checked_order_id(request.order_id)))


def _message(payment: Payment) -> pb.Payment:
    return pb.Payment(
        order_id=payment.id,
        state=_STATES.get(payment.state, pb.PAYMENT_STATE_UNSPECIFIED),
        amount=Money(payment.amount_cents, payment.currency).to_message(),
    )
