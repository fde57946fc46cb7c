"""Stripe's side of the books, through its official SDK."""

from __future__ import annotations

from collections import defaultdict

import aiohttp
import stripe

from services.audit.snapshot import Ledger, LedgerDispute, LedgerIntent, LedgerRefund
from services.common.errors import Kind, ShopError
from services.payment.clients import FAILED_REFUNDS, http_client
from services.payment.settings import PaymentSettings

# The key of an intent's metadata with which a person notes how a charge was paid back, where Stripe
# could not: docs/checkout.md.
_PAID_BACK = "paid_back"

_PAGE = 100  # the most that Stripe lists at once (https://docs.stripe.com/api/pagination)


async def read_ledger(settings: PaymentSettings) -> Ledger:
    """Returns every payment intent that names an order, every refund and every dispute.

    :raises ShopError: UNAVAILABLE when Stripe cannot be asked.
    """
    http = http_client(settings)
    client = stripe.StripeClient(
        settings.stripe_api_key.get_secret_value(),
        base_addresses={"api": settings.stripe_api_base},
        http_client=http,
        max_network_retries=2,
    )
    intents: defaultdict[str, list[LedgerIntent]] = defaultdict(list)
    refunds: defaultdict[str, list[LedgerRefund]] = defaultdict(list)
    disputes: defaultdict[str, list[LedgerDispute]] = defaultdict(list)
    try:
        listed_intents = await client.v1.payment_intents.list_async({"limit": _PAGE})
        async for intent in listed_intents.auto_paging_iter():
            order_id = getattr(intent.metadata, "order_id", None)
            if order_id is not None:
                intents[order_id].append(
                    LedgerIntent(
                        intent.id,
                        intent.status,
                        intent.amount,
                        intent.amount_capturable,
                        intent.amount_received,
                        is_paid_back=hasattr(intent.metadata, _PAID_BACK),
                    )
                )
        listed_refunds = await client.v1.refunds.list_async({"limit": _PAGE})
        async for refund in listed_refunds.auto_paging_iter():
            if refund.status not in FAILED_REFUNDS:
                refunds[str(refund.payment_intent)].append(LedgerRefund(refund.id, refund.amount))
        listed_disputes = await client.v1.disputes.list_async({"limit": _PAGE})
        async for dispute in listed_disputes.auto_paging_iter():
            disputes[str(dispute.payment_intent)].append(
                LedgerDispute(dispute.id, dispute.amount, dispute.status)
            )
    except (stripe.StripeError, aiohttp.ClientError, TimeoutError) as error:
        raise ShopError(
            Kind.UNAVAILABLE, "stripe-unavailable", f"Stripe cannot be asked: {error}"
        ) from error
    finally:
        await http.close_async()
    return Ledger(intents, refunds, disputes)
