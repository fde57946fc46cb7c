"""Stripe, through its official SDK: payment intents with manual capture, and refunds.

Only this module turns Stripe's errors into the shop's kinds. Test payment methods and their
outcomes: https://docs.stripe.com/testing
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, closing
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import aiohttp
import stripe
from stripe import (
    StripeClient,  # named, so that it is loaded with this module, not at its first use
)

from services.common import error_codes
from services.common.calls.outgoing import CallTools, observed
from services.common.errors import Kind, ShopError
from services.common.forward_proxy import proxy_for
from services.common.observing.logs import get_logger
from services.payment.model import Declined, Payment, Refusal
from services.payment.settings import PaymentSettings

log = get_logger(__name__)

Answer = TypeVar("Answer")

_CALLEE = "stripe"

# How long Stripe's search may not know a new intent; the list shows it at once.
# https://docs.stripe.com/search#data-freshness
_SEARCH_LAG_SECONDS = 60
# How often an intent may change between the look at it and the request that undoes it.
_GIVE_BACK_ROUNDS = 3

# UNAVAILABLE for one request, while Stripe works for others: 409, the same request is under way
# elsewhere; 500, which is kept for the request's key and would fail every probe with it.
_ABOUT_ONE_REQUEST = frozenset({409, 500})

# Stripe's decline codes (https://docs.stripe.com/declines/codes) that a customer can do something
# about.
_ADVICE: Mapping[str, tuple[str, str]] = {
    "insufficient_funds": (
        error_codes.INSUFFICIENT_FUNDS,
        "Your card has insufficient funds. Please try another card.",
    ),
    "expired_card": (error_codes.EXPIRED_CARD, "Your card has expired. Please try another card."),
    "incorrect_cvc": ("incorrect-cvc", "The card's security code is not right. Please try again."),
    "processing_error": (
        error_codes.PROCESSING_ERROR,
        "Your bank could not process the payment just now. Please try again in a moment, "
        "or use another card.",
    ),
    "authentication_required": (
        error_codes.AUTHENTICATION_REQUIRED,
        "Your bank wants you to confirm this payment, which this shop cannot do yet. "
        "Please use another card.",
    ),
}
_PLAIN_DECLINE = (
    "card-declined",
    "Your card was declined. Please try another card or ask your bank.",
)
DECLINE_CODES = (*(code for code, _ in _ADVICE.values()), _PLAIN_DECLINE[0])

# https://docs.stripe.com/api/refunds/object#refund_object-status: these gave nothing back.
FAILED_REFUNDS = frozenset({"failed", "canceled"})


class IntentStatus(StrEnum):
    """What the shop tells apart of an intent's status
    (https://docs.stripe.com/payments/paymentintents/lifecycle).
    """

    AUTHORIZED = "requires_capture"
    CAPTURED = "succeeded"
    CANCELLED = "canceled"
    OTHER = "other"


# What holds money of a customer's, or took it.
HOLDS_MONEY = frozenset({IntentStatus.AUTHORIZED, IntentStatus.CAPTURED})


class Intent(NamedTuple):
    """A payment intent as the shop needs it."""

    id: str
    status: IntentStatus
    amount_cents: int
    currency: str


class Sighting(NamedTuple):
    """An intent in Stripe's list, and what tells whose it is.

    :param created_seconds: Unix time, by Stripe's clock.
    """

    intent: Intent
    order_id: str | None
    created_seconds: int


class Disputed(NamedTuple):
    """A dispute in Stripe's list.

    :param created_seconds: Unix time, by Stripe's clock.
    """

    id: str
    intent_id: str
    created_seconds: int


class GivenBack(StrEnum):
    """How a give-back ended. The last two are final: asking Stripe again changes nothing.

    DISPUTED: the customer's bank takes the charge back, so a refund would pay twice
    (https://docs.stripe.com/disputes). FAILED: the card takes no refund, and the money is in the
    shop's balance again (https://docs.stripe.com/refunds#failed-refunds): a person pays it back
    another way.
    """

    VOIDED = "voided"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    FAILED = "refund_failed"


# Why Stripe refuses a refund (https://docs.stripe.com/error-codes); any other reason is FAILED.
_ENDS_OF_A_REFUND: Mapping[str, GivenBack] = {
    "charge-already-refunded": GivenBack.REFUNDED,
    "charge-disputed": GivenBack.DISPUTED,
}


# Ends that a person must look at.
NOT_GIVEN_BACK = frozenset({GivenBack.DISPUTED, GivenBack.FAILED})


class StripeError(ShopError):
    """Stripe failed within itself: whether the request had an effect is not known, and its answer
    is kept for the key.
    """

    def __init__(self) -> None:
        super().__init__(
            Kind.UNAVAILABLE,
            "stripe-failed",
            "The payment provider has a problem.",
            retry_after_seconds=2,
        )


class Stripe:
    """The part of Stripe that the shop uses.

    Only the authorization needs an idempotency key of the payment's. An intent can be captured,
    cancelled or refunded in full just once, so repeating those is refused; and a key would make
    Stripe repeat an answer that is out of date.
    """

    def __init__(self, settings: PaymentSettings, tools: CallTools) -> None:
        self._tools = tools
        self._http = http_client(settings)
        self._client = StripeClient(
            settings.stripe_api_key.get_secret_value(),
            base_addresses={"api": settings.stripe_api_base},
            http_client=self._http,
            max_network_retries=settings.stripe_max_retries,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close_async()

    async def authorize(self, payment: Payment) -> Intent:
        """Sets the amount aside. The same payment and attempt give the same intent, however often
        it is asked for.

        :raises Declined: the card or the request was refused.
        :raises StripeError: see there.
        """
        intents = self._client.v1.payment_intents
        answer = await self._call(
            "POST /v1/payment_intents",
            intents.create_async(
                {
                    "amount": payment.amount_cents,
                    "currency": payment.currency.lower(),
                    "payment_method": payment.payment_method,
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                    "capture_method": "manual",
                    "confirm": True,
                    "error_on_requires_action": True,
                    "metadata": {"order_id": payment.id},
                },
                {"idempotency_key": payment.authorize_key},
            ),
        )
        return _intent(answer)

    async def find(self, order_id: str) -> Intent | None:
        """Returns the intent of an order, one that holds or took money before one that was voided.

        For a payment whose answer, or whose document, is lost. One that is found too late, by a
        search that lags more than it should, is a stray: see :mod:`.reconciliation`.
        """
        intents = self._client.v1.payment_intents
        query = f"metadata['order_id']:{json.dumps(order_id)}"
        known = await self._call(
            "GET /v1/payment_intents/search", intents.search_async({"query": query})
        )
        voided: Intent | None = None
        for found in known.data:
            intent = await self.retrieve(found.id)  # the search may be behind here too
            if intent.status in HOLDS_MONEY:
                return intent
            if intent.status is IntentStatus.CANCELLED:
                voided = intent
        newest_seconds = await self.newest_seconds()
        if newest_seconds is None:
            return voided
        async with aclosing(self.created(newest_seconds - _SEARCH_LAG_SECONDS)) as sightings:
            async for sighting in sightings:
                if sighting.order_id != order_id:
                    continue
                if sighting.intent.status in HOLDS_MONEY:
                    return sighting.intent
                if sighting.intent.status is IntentStatus.CANCELLED:
                    voided = sighting.intent
        return voided

    async def newest_seconds(self) -> int | None:
        """When the newest intent was created, by Stripe's clock."""
        query: stripe.params.PaymentIntentListParams = {"limit": 1}
        page = await self._call(
            "GET /v1/payment_intents", self._client.v1.payment_intents.list_async(query)
        )
        return page.data[0].created if page.data else None

    async def created(
        self, from_seconds: int, before_seconds: int | None = None
    ) -> AsyncGenerator[Sighting]:
        """The intents that were created within that time, by Stripe's clock, newest first."""
        intents = self._client.v1.payment_intents
        created: stripe.params.PaymentIntentListParamsCreated = {"gte": from_seconds}
        if before_seconds is not None:
            created["lt"] = before_seconds
        query: stripe.params.PaymentIntentListParams = {"created": created, "limit": 100}
        while True:
            page = await self._call("GET /v1/payment_intents", intents.list_async(query))
            for found in page.data:
                order_id = getattr(found.metadata, "order_id", None)
                yield Sighting(_intent(found), order_id, found.created)
            if not page.has_more:
                return
            query["starting_after"] = page.data[-1].id

    async def retrieve(self, intent_id: str) -> Intent:
        """The intent as it stands."""
        intents = self._client.v1.payment_intents
        return _intent(
            await self._call("GET /v1/payment_intents/{id}", intents.retrieve_async(intent_id))
        )

    async def capture(self, intent_id: str) -> Intent:
        """Charges what was set aside. Declined when that is no longer possible."""
        answer = await self._call(
            "POST /v1/payment_intents/{id}/capture",
            self._client.v1.payment_intents.capture_async(intent_id),
        )
        return _intent(answer)

    async def void(self, intent_id: str) -> Intent:
        """Gives up what was set aside. Declined when it was charged meanwhile."""
        answer = await self._call(
            "POST /v1/payment_intents/{id}/cancel",
            self._client.v1.payment_intents.cancel_async(intent_id),
        )
        return _intent(answer)

    async def refund(self, intent_id: str) -> GivenBack:
        """Pays the whole charge back: REFUNDED, now, before, or while the bank is still at it;
        DISPUTED or FAILED where it is refused for good.
        """
        try:
            answer = await self._call(
                "POST /v1/refunds",
                self._client.v1.refunds.create_async({"payment_intent": intent_id}),
            )
        except Declined as refused:
            return await self._end_of_refund(intent_id, refused)
        return GivenBack.FAILED if answer.status in FAILED_REFUNDS else GivenBack.REFUNDED

    async def refunded_cents(self, intent_id: str) -> int:
        """How much of a charge is paid back by now, or on its way: what has failed is not."""
        query: stripe.params.RefundListParams = {"payment_intent": intent_id, "limit": 100}
        page = await self._call("GET /v1/refunds", self._client.v1.refunds.list_async(query))
        return sum(refund.amount for refund in page.data if refund.status not in FAILED_REFUNDS)

    async def disputed(self, from_seconds: int) -> AsyncGenerator[Disputed]:
        """The disputes that were created from then on, by Stripe's clock, newest first."""
        disputes = self._client.v1.disputes
        query: stripe.params.DisputeListParams = {"created": {"gte": from_seconds}, "limit": 100}
        while True:
            page = await self._call("GET /v1/disputes", disputes.list_async(query))
            for found in page.data:
                if found.payment_intent is not None:
                    yield Disputed(found.id, str(found.payment_intent), found.created)
            if not page.has_more:
                return
            query["starting_after"] = page.data[-1].id

    async def order_of(self, intent_id: str) -> str | None:
        """The order that an intent names."""
        intents = self._client.v1.payment_intents
        intent = await self._call("GET /v1/payment_intents/{id}", intents.retrieve_async(intent_id))
        return getattr(intent.metadata, "order_id", None)

    async def _end_of_refund(self, intent_id: str, refused: Declined) -> GivenBack:
        if refused.code in _ENDS_OF_A_REFUND:
            return _ENDS_OF_A_REFUND[refused.code]
        if (await self.retrieve(intent_id)).status is not IntentStatus.CAPTURED:
            raise refused
        log.error("stripe.refuses_refund", intent_id=intent_id, code=refused.code)
        return GivenBack.FAILED

    async def give_back(self, intent: Intent) -> GivenBack:
        """Voids what is set aside, or pays back what was charged, whichever is needed by then.

        :returns: how it ended, now or before.
        :raises StripeError: it changed under our hands again and again.
        """
        for _ in range(_GIVE_BACK_ROUNDS):
            if intent.status is IntentStatus.CANCELLED:
                return GivenBack.VOIDED
            try:
                if intent.status is IntentStatus.CAPTURED:
                    return await self.refund(intent.id)
                intent = await self.void(intent.id)
            except Declined:
                intent = await self.retrieve(intent.id)  # a late capture, or somebody else's void
        raise StripeError

    async def _call(self, operation: str, request: Coroutine[Any, Any, Answer]) -> Answer:
        with (
            closing(request),  # a refused call never starts it
            observed(self._tools, callee=_CALLEE, operation=operation, protocol="http") as outcome,
        ):
            try:
                answer = await request
            except stripe.StripeError as error:
                outcome.callee_works = error.http_status in _ABOUT_ONE_REQUEST
                # The text of an invalid request repeats what the customer has sent.
                is_told = not isinstance(error, stripe.InvalidRequestError)
                raise _translated(error) from (error if is_told else None)
            except (aiohttp.ClientError, TimeoutError) as error:  # while the SDK reads
                raise _unavailable("The payment provider cannot be reached.") from error
            outcome.status = "200"
            return answer


def http_client(settings: PaymentSettings) -> stripe.AIOHTTPClient:
    """The SDK's way to Stripe, through the proxy that the environment names."""
    proxy = proxy_for(settings.stripe_api_base, schemes=("http", "https"))
    return stripe.AIOHTTPClient(timeout=settings.stripe_timeout_seconds, proxy=proxy)


def _intent(intent: stripe.PaymentIntent) -> Intent:
    known = {status.value for status in IntentStatus}
    status = IntentStatus(intent.status) if intent.status in known else IntentStatus.OTHER
    return Intent(intent.id, status, intent.amount, intent.currency.upper())


def _translated(error: stripe.StripeError) -> ShopError:
    result: ShopError
    match error:
        case stripe.CardError():
            result = _declined(error)
        case stripe.RateLimitError() | stripe.APIConnectionError():
            result = _unavailable("The payment provider cannot be reached.")
        case stripe.AuthenticationError() | stripe.PermissionError():
            log.error("stripe.refuses_key", reason=str(error))
            result = _unavailable("Payments are not available at the moment.")
        case _ if (error.headers or {}).get("stripe-should-retry") == "true":
            # https://docs.stripe.com/error-low-level#stripe-should-retry: nothing was kept.
            result = _unavailable("The payment provider has a problem.")
        case _ if error.http_status == 409:  # the same request is under way elsewhere
            result = _unavailable("This payment is being processed.")
        case stripe.IdempotencyError():
            log.error("stripe.key_reused", reason=str(error))
            result = ShopError(
                Kind.INTERNAL, "payment-key-reused", "This payment cannot be processed."
            )
        case stripe.InvalidRequestError():
            # At Stripe the request's id finds what was wrong.
            log.warning(
                "stripe.refuses_request",
                code=error.code,
                param=error.param,  # pyright: ignore[reportUnknownMemberType]  untyped
                stripe_request_id=error.request_id,
            )
            refusal = Refusal(
                kind=Kind.INVALID,
                code=(error.code or "payment-refused").replace("_", "-"),
                detail="The payment provider does not accept this payment method.",
            )
            result = Declined(refusal)
        case _:
            result = StripeError()
    return result


def _declined(error: stripe.CardError) -> Declined:
    decline_code = getattr(error.error, "decline_code", None) or ""
    code, detail = _ADVICE.get(decline_code) or _ADVICE.get(error.code or "") or _PLAIN_DECLINE
    return Declined(Refusal(kind=Kind.DECLINED, code=code, detail=detail))


def _unavailable(detail: str) -> ShopError:
    return ShopError(Kind.UNAVAILABLE, "stripe-unavailable", detail, retry_after_seconds=2)
