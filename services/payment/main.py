"""Wires the payment service."""

from __future__ import annotations

from services.common.serving.host import Host
from services.payment import api
from services.payment.aftermath import Aftermath
from services.payment.clients import Stripe
from services.payment.model import PAYMENTS, RECONCILED, Payment, Reconciled
from services.payment.reconciliation import Reconciliation
from services.payment.rpc import PaymentRpc
from services.payment.service import Payments
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore, ReconciledStore
from services.pb import payment_pb2
from services.pb.payment_pb2_grpc import add_PaymentServiceServicer_to_server


async def wire(host: Host) -> None:
    """Builds the service on its host."""
    settings = host.settings(PaymentSettings)
    stripe = Stripe(settings, host.call_tools)
    host.on_close(stripe.close)
    store = PaymentStore(await host.documents(PAYMENTS, Payment))
    payments = Payments(store, stripe, host.metrics)
    marks = await host.documents(RECONCILED, Reconciled)
    reconciliation = Reconciliation(payments, store, ReconciledStore(marks), stripe, host.metrics)
    host.every("reconcile with Stripe", settings.payment_reconcile_seconds, reconciliation.run)
    aftermath = Aftermath(store, ReconciledStore(marks, Reconciled.DISPUTES), stripe, host.metrics)
    host.every("look at refunds and disputes", settings.payment_reconcile_seconds, aftermath.run)
    host.serve_http(api.router, payments)
    host.serve_grpc(
        add_PaymentServiceServicer_to_server,
        PaymentRpc(payments),
        payment_pb2.DESCRIPTOR.services_by_name["PaymentService"].full_name,
    )
