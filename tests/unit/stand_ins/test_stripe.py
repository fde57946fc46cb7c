"""The Stripe sandbox, driven by Stripe's own SDK: it has to behave as the shop will find Stripe."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import aiohttp
import pytest
import stripe
from stripe.params import PaymentIntentCreateParams

from services.common.errors import ConfigurationError
from stand_ins.stripe import model
from stand_ins.stripe.api import MAX_BODY_BYTES
from stand_ins.stripe.faults import SandboxFaultInjector, SandboxFaults
from stand_ins.stripe.faults_page import SLIDERS, TAKE_BACK, read, render
from stand_ins.stripe.model import PaymentIntent, Status
from stand_ins.stripe.server import running
from stand_ins.stripe.settings import SandboxSettings, read_settings
from stand_ins.stripe.store import Books, Store, StoredAnswer
from tests.testkit.ports import free_port
from tools.certificate import self_signed

KEY = "sk_test_sandbox"
COMMAND = (sys.executable, "-m", "stand_ins.stripe")
START_SECONDS = 20.0


class SandboxShop:
    """A caller of one sandbox: Stripe's SDK, and plain HTTP for what the SDK does not do."""

    def __init__(self, url: str, http: aiohttp.ClientSession, retries: int, key: str) -> None:
        self.url = url
        self.http = http
        self.key = key
        self.api = stripe.StripeClient(
            key,
            base_addresses={"api": url},
            http_client=stripe.AIOHTTPClient(session=http),
            max_network_retries=retries,
        ).v1

    async def pay(
        self,
        payment_method: str | None = "pm_card_visa",
        *,
        amount: int | None = 2500,
        order_id: str = "order-1",
        idempotency_key: str | None = None,
        **changes: Any,
    ) -> stripe.PaymentIntent:
        """Confirms a payment with manual capture, as the shop does."""
        asked: dict[str, Any] = {
            "amount": amount,
            "currency": "eur",
            "payment_method": payment_method,
            "payment_method_types": ["card"],
            "capture_method": "manual",
            "confirm": True,
            "error_on_requires_action": True,
            "metadata": {"order_id": order_id},
            **changes,
        }
        params = PaymentIntentCreateParams(
            **{name: value for name, value in asked.items() if value is not None}
        )
        options: stripe.RequestOptions = (
            {"idempotency_key": idempotency_key} if idempotency_key else {}
        )
        return await self.api.payment_intents.create_async(params, options)

    async def ledger(self, **query: str) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/sandbox/ledger", params=query) as reply:
            assert reply.status == 200
            return await reply.json()

    async def misbehave(self, **faults: float) -> None:
        async with self.http.post(f"{self.url}/sandbox/faults", json=faults) as reply:
            assert reply.status == 200, await reply.text()

    async def post(
        self, path: str, form: str, **headers: str
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """Status, body and headers of a request that the SDK would not send."""
        sent = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with self.http.post(self.url + path, data=form, headers=sent) as reply:
            return reply.status, await reply.json(), reply.headers


@asynccontextmanager
async def shop_at(url: str, *, retries: int = 0, key: str = KEY) -> AsyncGenerator[SandboxShop]:
    async with aiohttp.ClientSession() as http:
        yield SandboxShop(url, http, retries, key)


@pytest.fixture(scope="module")
def sandbox_for_all() -> Generator[str]:
    """One process for all tests that do not stop it; starting and stopping one takes a while."""
    process = subprocess.Popen(
        COMMAND,
        env=os.environ | {"SANDBOX_PORT": "0", "SANDBOX_ALLOW_RESET": "true"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


@pytest.fixture
async def sandbox(sandbox_for_all: str) -> str:
    """A sandbox without faults whose books are empty."""
    async with shop_at(sandbox_for_all) as shop:
        await shop.misbehave()
        async with shop.http.delete(f"{shop.url}/sandbox/ledger") as reply:
            assert reply.status == 204
    return sandbox_for_all


@pytest.fixture
async def shop(sandbox: str) -> AsyncGenerator[SandboxShop]:
    async with shop_at(sandbox) as shop:
        yield shop


@pytest.fixture
async def hasty_shop(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SandboxShop]:
    """Where "some time later" is at once."""
    monkeypatch.setattr(model, "REFUND_CHANGES_SECONDS", 0)
    async with running(SandboxSettings(port=0)) as url, shop_at(url) as shop:
        yield shop


def error_of(refused: pytest.ExceptionInfo[stripe.StripeError]) -> stripe.ErrorObject:
    assert refused.value.error is not None
    return refused.value.error


def only_intent(ledger: dict[str, Any]) -> dict[str, Any]:
    (intent,) = ledger["payment_intents"]
    return intent


class TestPayment:
    async def test_is_authorized_then_captured(self, shop: SandboxShop) -> None:
        authorized = await shop.pay()
        assert authorized.status == "requires_capture"
        assert (authorized.amount_capturable, authorized.amount_received) == (2500, 0)
        assert authorized.metadata["order_id"] == "order-1"
        assert str(authorized.latest_charge).startswith("ch_")
        assert (await shop.ledger())["totals"]["authorized_open_cents"] == 2500

        captured = await shop.api.payment_intents.capture_async(authorized.id)
        assert captured.status == "succeeded"
        assert (captured.amount_capturable, captured.amount_received) == (0, 2500)
        totals = (await shop.ledger())["totals"]
        assert (totals["authorized_open_cents"], totals["captured_cents"]) == (0, 2500)
        assert (await shop.api.payment_intents.retrieve_async(authorized.id)) == captured

    async def test_captures_less_than_was_authorized_and_releases_the_rest(
        self, shop: SandboxShop
    ) -> None:
        intent = await shop.pay()
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.api.payment_intents.capture_async(intent.id, {"amount_to_capture": 2501})
        assert refused.value.code == "amount_too_large"
        captured = await shop.api.payment_intents.capture_async(
            intent.id, {"amount_to_capture": 2000}
        )
        assert (captured.amount_capturable, captured.amount_received) == (0, 2000)

    async def test_with_automatic_capture_is_captured_at_once(self, shop: SandboxShop) -> None:
        intent = await shop.pay("pm_card_mastercard", capture_method=None)
        assert (intent.status, intent.amount_received) == ("succeeded", 2500)

    async def test_cannot_be_captured_twice(self, shop: SandboxShop) -> None:
        intent = await shop.pay()
        await shop.api.payment_intents.capture_async(intent.id)
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.api.payment_intents.capture_async(intent.id)
        assert refused.value.http_status == 400
        assert refused.value.code == "payment_intent_unexpected_state"
        intent_told = error_of(refused).payment_intent
        assert intent_told is not None
        assert intent_told.status == "succeeded"
        assert (await shop.ledger())["totals"]["captured_cents"] == 2500

    async def test_can_be_canceled_until_it_is_captured(self, shop: SandboxShop) -> None:
        released = await shop.pay(order_id="released")
        canceled = await shop.api.payment_intents.cancel_async(
            released.id, {"cancellation_reason": "requested_by_customer"}
        )
        assert (canceled.status, canceled.amount_capturable) == ("canceled", 0)
        assert canceled.cancellation_reason == "requested_by_customer"
        with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
            await shop.api.payment_intents.capture_async(released.id)

        paid = await shop.pay(order_id="paid")
        await shop.api.payment_intents.capture_async(paid.id)
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.api.payment_intents.cancel_async(paid.id)
        assert refused.value.code == "payment_intent_unexpected_state"

    async def test_can_be_confirmed_after_it_was_made(self, shop: SandboxShop) -> None:
        later: dict[str, Any] = {"confirm": None, "error_on_requires_action": None}
        intent = await shop.pay(**later)
        assert intent.status == "requires_confirmation"
        confirmed = await shop.api.payment_intents.confirm_async(intent.id)
        assert confirmed.status == "requires_capture"
        with pytest.raises(stripe.InvalidRequestError, match="status of requires_capture"):
            await shop.api.payment_intents.confirm_async(intent.id)

        empty = await shop.pay(payment_method=None, **later)
        assert empty.status == "requires_payment_method"
        with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
            await shop.api.payment_intents.confirm_async(empty.id)
        chosen = await shop.api.payment_intents.confirm_async(
            empty.id, {"payment_method": "pm_card_visa"}
        )
        assert chosen.status == "requires_capture"

    async def test_needs_a_return_url_unless_redirects_are_ruled_out(
        self, shop: SandboxShop
    ) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="return_url"):
            await shop.pay(payment_method_types=None)
        intent = await shop.pay(
            payment_method_types=None,
            automatic_payment_methods={"enabled": True, "allow_redirects": "never"},
        )
        assert intent.status == "requires_capture"

    @pytest.mark.parametrize(
        ("card", "code", "decline_code", "message"),
        [
            ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline", "was declined"),
            (
                "pm_card_visa_chargeDeclinedInsufficientFunds",
                "card_declined",
                "insufficient_funds",
                "insufficient funds",
            ),
            (
                "pm_card_chargeDeclinedInsufficientFunds",
                "card_declined",
                "insufficient_funds",
                "insufficient funds",
            ),
            ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card", "was declined"),
            (
                "pm_card_visa_chargeDeclinedStolenCard",
                "card_declined",
                "stolen_card",
                "was declined",
            ),
            ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card", "has expired"),
            (
                "pm_card_chargeDeclinedIncorrectCvc",
                "incorrect_cvc",
                "incorrect_cvc",
                "security code",
            ),
            (
                "pm_card_chargeDeclinedProcessingError",
                "processing_error",
                "processing_error",
                "error occurred while processing your card",
            ),
            (
                "pm_card_authenticationRequired",
                "authentication_required",
                "authentication_not_handled",
                "authentication action",
            ),
        ],
    )
    async def test_is_declined_as_the_card_says(
        self, shop: SandboxShop, card: str, code: str, decline_code: str, message: str
    ) -> None:
        with pytest.raises(stripe.CardError, match=message) as declined:
            await shop.pay(card)
        error = error_of(declined)
        assert declined.value.http_status == 402
        assert (error.type, error.code, error.decline_code) == ("card_error", code, decline_code)
        assert error.doc_url is not None
        intent = only_intent(await shop.ledger())
        assert intent["status"] == "requires_payment_method"
        assert intent["last_payment_error"]["decline_code"] == decline_code
        assert intent["amount_capturable"] == intent["amount_received"] == 0

    async def test_waits_for_authentication_when_the_caller_can_handle_it(
        self, shop: SandboxShop
    ) -> None:
        intent = await shop.pay("pm_card_authenticationRequired", error_on_requires_action=None)
        assert intent.status == "requires_action"
        assert intent.next_action is not None
        assert (await shop.ledger())["totals"]["authorized_open_cents"] == 0

    async def test_declined_once_is_paid_with_another_card(self, shop: SandboxShop) -> None:
        with pytest.raises(stripe.CardError):
            await shop.pay("pm_card_visa_chargeDeclined")
        declined = only_intent(await shop.ledger())
        paid = await shop.api.payment_intents.confirm_async(
            declined["id"], {"payment_method": "pm_card_visa"}
        )
        assert paid.status == "requires_capture"
        assert paid.last_payment_error is None


class TestMetadata:
    async def test_is_merged_key_by_key_and_searched_as_it_is_then(self, shop: SandboxShop) -> None:
        intent = await shop.pay(metadata={"order_id": "order-1", "colour": "red", "size": "m"})
        await shop.api.payment_intents.capture_async(intent.id)
        update = shop.api.payment_intents.update_async
        updated = await update(
            intent.id, {"metadata": {"paid_back": "by bank", "colour": "", "size": "l"}}
        )
        assert updated.status == "succeeded"
        kept = {"order_id": "order-1", "size": "l", "paid_back": "by bank"}
        assert updated.metadata.to_dict() == kept
        found = await shop.api.payment_intents.retrieve_async(intent.id)
        assert found.metadata.to_dict() == kept

        async def with_(pair: str) -> list[str]:
            page = await shop.api.payment_intents.search_async({"query": pair})
            return [intent.id for intent in page.data]

        assert await with_("metadata['size']:'m'") == await with_("metadata['colour']:'red'") == []
        for pair in ("metadata['size']:'l'", "metadata['paid_back']:'by bank'"):
            assert await with_(pair) == [intent.id]
        assert (await update(intent.id, {"metadata": ""})).metadata.to_dict() == {}
        assert await with_("metadata['order_id']:'order-1'") == []

    async def test_of_an_update_has_the_limits_of_one_that_is_made(self, shop: SandboxShop) -> None:
        intent = await shop.pay(metadata={f"k{number}": "v" for number in range(50)})
        update = shop.api.payment_intents.update_async
        for one_too_many in ({"other": "v"}, {"k" * 41: "v"}):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                await update(intent.id, {"metadata": one_too_many})
            assert error_of(refused).param == "metadata"
        exchanged = await update(intent.id, {"metadata": {"k0": "", "other": "v"}})
        assert len(exchanged.metadata.to_dict()) == 50

    async def test_is_all_that_the_sandbox_updates(self, shop: SandboxShop) -> None:
        intent = await shop.pay()
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.api.payment_intents.update_async(intent.id, {"amount": 1})
        assert refused.value.code == "parameter_unknown"
        with pytest.raises(stripe.InvalidRequestError) as missing:
            await shop.api.payment_intents.update_async("pi_unknown", {"metadata": {"a": "b"}})
        assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


class TestRefund:
    async def test_gives_back_parts_up_to_what_was_captured(self, shop: SandboxShop) -> None:
        intent = await shop.pay()
        await shop.api.payment_intents.capture_async(intent.id)
        first = await shop.api.refunds.create_async(
            {"payment_intent": intent.id, "amount": 1000, "reason": "requested_by_customer"}
        )
        assert (first.amount, first.status, first.reason) == (
            1000,
            "succeeded",
            "requested_by_customer",
        )
        with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded") as refused:
            await shop.api.refunds.create_async({"payment_intent": intent.id, "amount": 1501})
        assert refused.value.code is None
        assert error_of(refused).param == "amount"
        rest = await shop.api.refunds.create_async({"payment_intent": intent.id})
        assert rest.amount == 1500
        with pytest.raises(stripe.InvalidRequestError) as again:
            await shop.api.refunds.create_async({"payment_intent": intent.id})
        assert again.value.code == "charge_already_refunded"

        listed = await shop.api.refunds.list_async({"payment_intent": intent.id})
        assert [refund.id for refund in listed.data] == [rest.id, first.id]
        assert (await shop.api.refunds.retrieve_async(rest.id)) == rest
        assert (await shop.ledger())["totals"]["refunded_cents"] == 2500

    @pytest.mark.parametrize(
        ("card", "first", "last", "given_back_cents"),
        [
            ("pm_card_visa", "succeeded", "succeeded", 2500),
            ("pm_card_pendingRefund", "pending", "succeeded", 2500),
            ("pm_card_refundFail", "succeeded", "failed", 0),
        ],
    )
    async def test_may_change_some_time_later(
        self,
        hasty_shop: SandboxShop,
        card: str,
        first: str,
        last: str,
        given_back_cents: int,
    ) -> None:
        shop = hasty_shop
        intent = await shop.pay(card)
        await shop.api.payment_intents.capture_async(intent.id)
        refund = await shop.api.refunds.create_async({"payment_intent": intent.id})
        assert refund.status == first
        listed = await shop.api.refunds.list_async({"payment_intent": intent.id})
        later = await shop.api.refunds.retrieve_async(refund.id)
        assert [each.status for each in (*listed.data, later)] == [last, last]
        assert later.to_dict().get("failure_reason") == ("unknown" if last == "failed" else None)
        assert (await shop.ledger())["totals"]["refunded_cents"] == given_back_cents
        assert [each["status"] for each in (await shop.ledger())["refunds"]] == [last]

    async def test_does_not_change_before_its_time(self, shop: SandboxShop) -> None:
        intent = await shop.pay("pm_card_refundFail")
        await shop.api.payment_intents.capture_async(intent.id)
        refund = await shop.api.refunds.create_async({"payment_intent": intent.id})
        assert (await shop.api.refunds.retrieve_async(refund.id)).status == "succeeded"
        assert (await shop.ledger())["totals"]["refunded_cents"] == 2500
        with pytest.raises(stripe.InvalidRequestError, match="already been refunded"):
            await shop.api.refunds.create_async({"payment_intent": intent.id})

    async def test_that_has_failed_can_be_asked_for_again(self, hasty_shop: SandboxShop) -> None:
        shop = hasty_shop
        intent = await shop.pay("pm_card_refundFail")
        await shop.api.payment_intents.capture_async(intent.id)
        for _ in range(2):
            refund = await shop.api.refunds.create_async({"payment_intent": intent.id})
            assert (refund.amount, refund.status) == (2500, "succeeded")

    async def test_needs_a_captured_payment(self, shop: SandboxShop) -> None:
        authorized = await shop.pay()
        with pytest.raises(stripe.InvalidRequestError, match="has not been captured"):
            await shop.api.refunds.create_async({"payment_intent": authorized.id})
        await shop.api.payment_intents.cancel_async(authorized.id)
        with pytest.raises(stripe.InvalidRequestError, match="successful charge"):
            await shop.api.refunds.create_async({"payment_intent": authorized.id})
        with pytest.raises(stripe.InvalidRequestError) as unknown:
            await shop.api.refunds.create_async({"payment_intent": "pi_unknown"})
        assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")


class TestDispute:
    @pytest.mark.parametrize("capture_method", ["manual", "automatic"])
    async def test_follows_the_charge(self, shop: SandboxShop, capture_method: str) -> None:
        intent = await shop.pay("pm_card_createDispute", capture_method=capture_method)
        if capture_method == "manual":
            assert (await shop.api.disputes.list_async()).data == []
            await shop.api.payment_intents.capture_async(intent.id)
        (dispute,) = (await shop.api.disputes.list_async({"payment_intent": intent.id})).data
        assert (dispute.amount, dispute.reason, dispute.status, dispute.payment_intent) == (
            2500,
            "fraudulent",
            "needs_response",
            intent.id,
        )
        assert await shop.api.disputes.retrieve_async(dispute.id) == dispute
        assert (await shop.api.payment_intents.retrieve_async(intent.id)).status == "succeeded"

    async def test_leaves_nothing_to_refund(self, shop: SandboxShop) -> None:
        intent = await shop.pay("pm_card_createDispute")
        await shop.api.payment_intents.capture_async(intent.id)
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.api.refunds.create_async({"payment_intent": intent.id})
        assert refused.value.code == "charge_disputed"

    async def test_is_listed_newest_first_in_pages_and_by_age(self, shop: SandboxShop) -> None:
        paid = [
            await shop.pay("pm_card_createDispute", capture_method="automatic") for _ in range(3)
        ]
        newest, middle, oldest = (await shop.api.disputes.list_async()).data
        assert [newest.payment_intent, oldest.payment_intent] == [paid[2].id, paid[0].id]
        page = await shop.api.disputes.list_async({"limit": 1, "starting_after": newest.id})
        assert ([each.id for each in page.data], page.has_more) == ([middle.id], True)
        later = await shop.api.disputes.list_async({"created": {"gt": newest.created}})
        assert later.data == []
        since = await shop.api.disputes.list_async({"created": {"gte": oldest.created}})
        assert len(since.data) == 3

    async def test_that_is_not_known_is_not_found(self, shop: SandboxShop) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.api.disputes.retrieve_async("du_unknown")
        assert refused.value.code == "resource_missing"
        for params in ({"starting_after": "du_unknown"}, {"payment_intent": "pi_unknown"}):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                await shop.api.disputes.list_async(params)  # pyright: ignore[reportArgumentType]
            assert refused.value.code == "resource_missing"


class TestReading:
    async def test_lists_newest_first_in_pages(self, shop: SandboxShop) -> None:
        made = [(await shop.pay(order_id=f"order-{n}")).id for n in range(3)]
        first = await shop.api.payment_intents.list_async({"limit": 2})
        assert [intent.id for intent in first.data] == [made[2], made[1]]
        assert first.has_more
        rest = await shop.api.payment_intents.list_async({"limit": 2, "starting_after": made[1]})
        assert [intent.id for intent in rest.data] == [made[0]]
        assert not rest.has_more

    async def test_lists_by_time(self, shop: SandboxShop) -> None:
        intent = await shop.pay()
        since = await shop.api.payment_intents.list_async({"created": {"gte": intent.created}})
        assert [found.id for found in since.data] == [intent.id]
        exactly = await shop.api.payment_intents.list_async({"created": intent.created})
        assert [found.id for found in exactly.data] == [intent.id]
        after = await shop.api.payment_intents.list_async({"created": {"gt": intent.created}})
        before = await shop.api.payment_intents.list_async({"created": {"lt": intent.created}})
        assert after.data == before.data == []

    async def test_refuses_pages_that_do_not_exist(self, shop: SandboxShop) -> None:
        with pytest.raises(stripe.InvalidRequestError) as too_long:
            await shop.api.payment_intents.list_async({"limit": 101})
        assert error_of(too_long).param == "limit"
        with pytest.raises(stripe.InvalidRequestError) as unknown:
            await shop.api.refunds.list_async({"starting_after": "re_unknown"})
        assert (unknown.value.http_status, error_of(unknown).param) == (400, "starting_after")

    async def test_finds_by_metadata(self, shop: SandboxShop) -> None:
        await shop.pay(order_id="other")
        wanted = await shop.pay(order_id="wanted")
        found = await shop.api.payment_intents.search_async(
            {"query": "metadata['order_id']:'wanted'"}
        )
        assert [intent.id for intent in found.data] == [wanted.id]
        with pytest.raises(stripe.InvalidRequestError):
            await shop.api.payment_intents.search_async({"query": "amount>1"})

    async def test_an_unknown_payment_is_404(self, shop: SandboxShop) -> None:
        with pytest.raises(stripe.InvalidRequestError) as missing:
            await shop.api.payment_intents.retrieve_async("pi_unknown")
        assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")

    async def test_a_route_that_stripe_has_and_the_sandbox_has_not_is_404(
        self, shop: SandboxShop
    ) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
            await shop.api.customers.create_async({"name": "Ada"})

    async def test_ledger_and_totals_of_one_order(self, shop: SandboxShop) -> None:
        await shop.pay(order_id="a", amount=1000)
        kept = await shop.pay(order_id="b", amount=2000)
        await shop.api.payment_intents.capture_async(kept.id)
        await shop.api.refunds.create_async({"payment_intent": kept.id, "amount": 500})
        ledger = await shop.ledger(order_id="b")
        assert only_intent(ledger)["id"] == kept.id
        assert [refund["amount"] for refund in ledger["refunds"]] == [500]
        assert ledger["totals"] == {
            "authorized_open_cents": 0,
            "captured_cents": 2000,
            "refunded_cents": 500,
            "payment_intents": 1,
            "refunds": 1,
        }
        assert (await shop.ledger())["totals"]["authorized_open_cents"] == 1000

    async def test_the_ledger_goes_on_behind_what_was_read(self, shop: SandboxShop) -> None:
        paid = [await shop.pay(order_id=f"order-{number}", amount=1000) for number in range(3)]
        await shop.api.payment_intents.capture_async(paid[0].id)
        refunds = [
            await shop.api.refunds.create_async({"payment_intent": paid[0].id, "amount": amount})
            for amount in (100, 200)
        ]

        page = await shop.ledger(
            limit="2", payment_intents_after=paid[2].id, refunds_after=refunds[1].id
        )

        assert [intent["id"] for intent in page["payment_intents"]] == [paid[1].id, paid[0].id]
        assert [refund["id"] for refund in page["refunds"]] == [refunds[0].id]
        assert page["totals"]["payment_intents"] == 3
        end = await shop.ledger(payment_intents_after=paid[0].id, refunds_after=refunds[0].id)
        assert (end["payment_intents"], end["refunds"]) == ([], [])


class TestWrongRequest:
    @pytest.mark.parametrize(
        ("changes", "code", "param"),
        [
            ({"amount": 49}, "amount_too_small", "amount"),
            ({"amount": 100_000_000}, "amount_too_large", "amount"),
            ({"amount": -5}, "parameter_invalid_integer", "amount"),
            ({"amount": "1.5"}, "parameter_invalid_integer", "amount"),
            ({"currency": None}, "parameter_missing", "currency"),
            ({"currency": "xxx"}, None, "currency"),
            ({"colour": "red"}, "parameter_unknown", "colour"),
            ({"automatic_payment_methods": {"colour": "red"}}, "parameter_unknown", None),
            ({"payment_method": "pm_card_none"}, "resource_missing", "payment_method"),
            ({"payment_method": ""}, "parameter_invalid_empty", "payment_method"),
            ({"payment_method_types": ["ideal"]}, None, "payment_method_types"),
            ({"automatic_payment_methods": {"enabled": True}}, None, "payment_method_types"),
            ({"metadata": {f"k{n}": "v" for n in range(51)}}, None, "metadata"),
            ({"payment_method": None}, "parameter_missing", "payment_method"),
            ({"amount": None}, "parameter_missing", "amount"),
            ({"capture_method": "sometimes"}, None, "capture_method"),
            ({"confirm": "perhaps"}, None, "confirm"),
            ({"confirm": None}, None, "error_on_requires_action"),
            ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
            ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
            ({"description": "d" * 1001}, "parameter_invalid_string_too_long", "description"),
        ],
    )
    async def test_is_400_and_changes_nothing(
        self, shop: SandboxShop, changes: dict[str, Any], code: str | None, param: str | None
    ) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await shop.pay(**changes)
        assert refused.value.http_status == 400
        assert refused.value.code == code
        if param is not None:
            assert error_of(refused).param == param
        assert (await shop.ledger())["totals"]["payment_intents"] == 0

    @pytest.mark.parametrize(
        "form", ["amount", "amount=%ff", "a[b=1", "amount=1\x00", "&".join(["x=1"] * 300)]
    )
    async def test_that_is_not_a_form_is_400(self, shop: SandboxShop, form: str) -> None:
        status, body, _ = await shop.post("/v1/payment_intents", form)
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")

    async def test_of_an_unknown_api_version_is_400(self, shop: SandboxShop) -> None:
        status, body, _ = await shop.post("/v1/refunds", "", Stripe_Version="newest")
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")

    async def test_with_too_long_an_idempotency_key_is_400(self, shop: SandboxShop) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="1 to 255 characters"):
            await shop.pay(idempotency_key="k" * 256)

    async def test_that_is_too_large_is_413(self, shop: SandboxShop) -> None:
        status, _, _ = await shop.post("/v1/payment_intents", "description=" + "x" * 70_000)
        assert status == 413

    @pytest.mark.parametrize(
        "authorization",
        ["", "Bearer sk_live_0123456789abcdef", "Bearer nonsense", "Basic %%%", "Digest x"],
    )
    async def test_without_a_test_key_is_401(self, shop: SandboxShop, authorization: str) -> None:
        status, body, _ = await shop.post("/v1/refunds", "", Authorization=authorization)
        assert status == 401
        assert "0123456789abcdef" not in body["error"]["message"]

    async def test_unknown_key_is_an_authentication_error_of_the_sdk(self, sandbox: str) -> None:
        async with shop_at(sandbox, key="sk_live_not_here") as shop:
            with pytest.raises(stripe.AuthenticationError):
                await shop.pay()

    async def test_takes_the_key_as_a_user_name_too(self, shop: SandboxShop) -> None:
        credentials = base64.b64encode(f"{KEY}:".encode()).decode()
        status, body, _ = await shop.post(
            "/v1/payment_intents",
            "amount=500&currency=EUR&payment_method_types[]=card",
            Authorization=f"Basic {credentials}",
        )
        assert (status, body["status"]) == (200, "requires_payment_method")


class TestIdempotencyKey:
    async def test_replays_the_same_answer(self, shop: SandboxShop) -> None:
        form = "amount=500&currency=eur&payment_method_types[]=card"
        first = await shop.post("/v1/payment_intents", form, Idempotency_Key="k1")
        again = await shop.post("/v1/payment_intents", form, Idempotency_Key="k1")
        assert again[:2] == first[:2]
        assert "Idempotent-Replayed" not in first[2]
        assert again[2]["Idempotent-Replayed"] == "true"
        assert again[2]["Idempotency-Key"] == "k1"
        assert again[2]["Original-Request"] == first[2]["Request-Id"] != again[2]["Request-Id"]
        assert (await shop.ledger())["totals"]["payment_intents"] == 1

    async def test_replays_a_decline(self, shop: SandboxShop) -> None:
        errors: list[stripe.CardError] = []
        for _ in range(2):
            with pytest.raises(stripe.CardError) as declined:
                await shop.pay("pm_card_visa_chargeDeclined", idempotency_key="k1")
            errors.append(declined.value)
        assert errors[0].http_body == errors[1].http_body
        assert (await shop.ledger())["totals"]["payment_intents"] == 1

    async def test_replays_a_capture_instead_of_refusing_the_second(
        self, shop: SandboxShop
    ) -> None:
        intent = await shop.pay()
        answers = [
            await shop.api.payment_intents.capture_async(
                intent.id, options={"idempotency_key": "capture"}
            )
            for _ in range(2)
        ]
        assert [answer.status for answer in answers] == ["succeeded", "succeeded"]

    async def test_refuses_other_parameters_and_other_paths(self, shop: SandboxShop) -> None:
        intent = await shop.pay(idempotency_key="k1")
        with pytest.raises(stripe.IdempotencyError, match="same parameters"):
            await shop.pay(amount=9900, idempotency_key="k1")
        with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
            await shop.api.payment_intents.capture_async(
                intent.id, options={"idempotency_key": "k1"}
            )
        assert only_intent(await shop.ledger())["status"] == "requires_capture"

    async def test_is_free_again_after_a_request_that_did_not_run(self, shop: SandboxShop) -> None:
        with pytest.raises(stripe.InvalidRequestError):
            await shop.pay(amount=1, idempotency_key="k1")
        assert (await shop.pay(idempotency_key="k1")).status == "requires_capture"

    async def test_makes_one_payment_of_twenty_requests_at_once(self, shop: SandboxShop) -> None:
        await shop.misbehave(delay_ms=30)
        results = await asyncio.gather(
            *(shop.pay(idempotency_key="k1") for _ in range(20)), return_exceptions=True
        )
        paid = {result.id for result in results if isinstance(result, stripe.PaymentIntent)}
        refused = [result for result in results if isinstance(result, stripe.StripeError)]
        assert len(paid) == 1
        assert refused
        assert {error.http_status for error in refused} == {409}
        assert {error.error.code for error in refused if error.error} == {"idempotency_key_in_use"}
        assert (await shop.ledger())["totals"]["payment_intents"] == 1

    async def test_lets_the_sdk_retry_what_is_in_flight(self, sandbox: str) -> None:
        async with shop_at(sandbox, retries=4) as shop:
            await shop.misbehave(delay_ms=30)
            paid = await asyncio.gather(*(shop.pay(idempotency_key="k1") for _ in range(5)))
            assert len({intent.id for intent in paid}) == 1

    async def test_expires_after_a_day(self) -> None:
        now = 1_000_000.0
        store = Store(None, clock=lambda: now)
        await store.open()
        answer = StoredAnswer("/v1/refunds", "f", 200, "{}", "req_1")

        def remember(books: Books) -> None:
            books.remember("k1", answer)

        await store.run(remember)
        now += 24 * 3600 - 1
        assert await store.run(lambda books: books.answer("k1")) == answer
        now += 1
        assert await store.run(lambda books: books.answer("k1")) is None
        await store.run(remember)  # the key is free again
        await store.close()


class TestFaults:
    async def test_a_failure_before_the_effect_leaves_nothing_behind(
        self, shop: SandboxShop
    ) -> None:
        await shop.misbehave(failure_rate=1)
        with pytest.raises(stripe.APIError) as failed:
            await shop.pay(idempotency_key="k1")
        assert failed.value.http_status in {500, 503}
        await shop.misbehave()
        assert (await shop.ledger())["totals"]["payment_intents"] == 0
        assert (await shop.pay(idempotency_key="k1")).status == "requires_capture"

    async def test_a_lost_reply_is_found_by_the_same_key(self, shop: SandboxShop) -> None:
        await shop.misbehave(lost_reply_rate=1)
        with pytest.raises(stripe.APIConnectionError):
            await shop.pay(idempotency_key="k1")
        await shop.misbehave()
        lost = only_intent(await shop.ledger())
        assert lost["status"] == "requires_capture"
        assert (await shop.pay(idempotency_key="k1")).id == lost["id"]
        assert (await shop.ledger())["requests"] == {"lost_reply": 1, "replayed": 1}

    async def test_a_stored_failure_is_replayed_though_the_effect_is_there(
        self, shop: SandboxShop
    ) -> None:
        await shop.misbehave(stored_failure_rate=1)
        with pytest.raises(stripe.APIError):
            await shop.pay(idempotency_key="k1")
        await shop.misbehave()
        with pytest.raises(stripe.APIError) as replayed:
            await shop.pay(idempotency_key="k1")
        assert replayed.value.http_status == 500
        assert only_intent(await shop.ledger())["status"] == "requires_capture"

    async def test_rate_limits(self, shop: SandboxShop) -> None:
        await shop.misbehave(rate_limit_rate=1)
        with pytest.raises(stripe.RateLimitError):
            await shop.pay()

    async def test_declines_whichever_card_it_is(self, shop: SandboxShop) -> None:
        await shop.misbehave(decline_rate=1)
        with pytest.raises(stripe.CardError) as declined:
            await shop.pay(idempotency_key="k1")
        assert declined.value.code == "card_declined"
        await shop.misbehave()
        intent = only_intent(await shop.ledger())
        assert intent["status"] == "requires_payment_method"
        later = await shop.api.payment_intents.confirm_async(
            intent["id"], {"payment_method": "pm_card_visa"}
        )
        assert later.status == "requires_capture"

    async def test_a_decline_leaves_captures_and_refunds_alone(self, shop: SandboxShop) -> None:
        paid = await shop.pay()
        await shop.misbehave(decline_rate=1)
        await shop.api.payment_intents.capture_async(paid.id)
        refund = await shop.api.refunds.create_async({"payment_intent": paid.id})
        assert refund.status == "succeeded"

    async def test_a_time_out_has_no_effect_and_lets_the_key_go(self, shop: SandboxShop) -> None:
        await shop.misbehave(timeout_rate=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await shop.pay(idempotency_key="k1")
        await shop.misbehave()
        assert (await shop.ledger())["requests"] == {"timeout": 1}
        assert (await shop.pay(idempotency_key="k1")).status == "requires_capture"

    async def test_the_sdk_gets_a_payment_through_all_of_them(self, sandbox: str) -> None:
        async with shop_at(sandbox, retries=8) as shop:
            await shop.misbehave(failure_rate=0.3, lost_reply_rate=0.3, delay_jitter_ms=5, seed=7)
            paid = await shop.pay()
            captured = await shop.api.payment_intents.capture_async(paid.id)
            assert captured.status == "succeeded"
            assert (await shop.ledger())["totals"]["payment_intents"] == 1

    def test_repeat_under_the_same_seed(self) -> None:
        faults = SandboxFaults(
            delay_ms=10, delay_jitter_ms=10, failure_rate=0.5, lost_reply_rate=0.5, seed=42
        )
        one, other = SandboxFaultInjector(faults), SandboxFaultInjector(faults)
        sequence = [one.draw() for _ in range(50)]
        assert sequence == [other.draw() for _ in range(50)]
        assert len(set(sequence)) > 1
        elsewhere = SandboxFaultInjector(faults.model_copy(update={"seed": 43}))
        assert sequence != [elsewhere.draw() for _ in range(50)]

    async def test_repeat_under_the_same_seed_over_http(self, shop: SandboxShop) -> None:
        async def outcomes() -> list[int]:
            await shop.misbehave(failure_rate=0.3, rate_limit_rate=0.3, seed=42)
            form = "amount=500&currency=eur"
            return [(await shop.post("/v1/payment_intents", form))[0] for _ in range(20)]

        first = await outcomes()
        assert {200, 429} < set(first) <= {200, 429, 500, 503}
        assert await outcomes() == first

    @pytest.mark.parametrize(
        "faults", ['{"failure_rate": 2}', '{"colour": 1}', "nonsense", '{"delay_ms": -1}']
    )
    async def test_wrong_ones_are_refused(self, shop: SandboxShop, faults: str) -> None:
        as_json = {"content-type": "application/json"}
        url = f"{shop.url}/sandbox/faults"
        async with shop.http.post(url, data=faults, headers=as_json) as reply:
            assert reply.status == 400
        async with shop.http.get(f"{shop.url}/sandbox/faults") as reply:
            assert await reply.json() == SandboxFaults().model_dump()

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
    async def test_what_any_website_can_send_is_refused(self, shop: SandboxShop, kind: str) -> None:
        url = f"{shop.url}/sandbox/faults"
        headers = {"content-type": kind}
        async with shop.http.post(url, data='{"failure_rate": 1}', headers=headers) as reply:
            assert reply.status == 415
        async with shop.http.get(url) as reply:
            assert await reply.json() == SandboxFaults().model_dump()


class TestFaultsPage:
    SENT: ClassVar = {
        "delay_ms": "1500",
        "delay_jitter_ms": "0",
        "decline_rate": "20",
        "timeout_rate": "7",
        "seed": "42",
    }
    SET = SandboxFaults(delay_ms=1500, decline_rate=0.2, timeout_rate=0.07, seed=42)

    async def send(self, shop: SandboxShop, form: Mapping[str, str], **headers: str) -> int:
        """Sends the form as a browser does that has the page open; the status."""
        sent = {"origin": shop.url, **{name.replace("_", "-"): v for name, v in headers.items()}}
        url = f"{shop.url}/faults"
        async with shop.http.post(url, data=form, headers=sent, allow_redirects=False) as reply:
            return reply.status

    async def faults(self, shop: SandboxShop) -> SandboxFaults:
        async with shop.http.get(f"{shop.url}/sandbox/faults") as reply:
            return SandboxFaults.model_validate(await reply.json())

    async def test_sets_all_and_takes_all_back(self, shop: SandboxShop) -> None:
        assert await self.send(shop, self.SENT) == 303
        assert await self.faults(shop) == self.SET

        assert await self.send(shop, {**self.SENT, TAKE_BACK: "all"}) == 303
        assert await self.faults(shop) == SandboxFaults()

    async def test_shows_what_is_set_however_it_was(self, shop: SandboxShop) -> None:
        await shop.misbehave(delay_ms=30_000, failure_rate=0.333)
        async with shop.http.get(f"{shop.url}/faults") as reply:
            html = await reply.text()
        assert "Now: 30000 ms slower, 33.3 % errors." in html
        assert 'max="30000"' in html
        async with shop.http.get(shop.url) as reply:
            assert "on purpose: 30000 ms slower, 33.3 % errors." in await reply.text()

    def test_has_a_field_for_each_fault(self) -> None:
        assert {*SLIDERS, "seed"} == set(SandboxFaults.model_fields)

    def test_what_it_shows_can_be_sent_as_it_is(self) -> None:
        faults = SandboxFaults(
            **{name: 0.07 for name, slider in SLIDERS.items() if slider.unit == "%"},
            **{name: 40 for name, slider in SLIDERS.items() if slider.unit == "ms"},
        )
        sent = urlencode({name: f"{one.shown(faults):g}" for name, one in SLIDERS.items()})
        assert read(sent.encode()) == faults

    @pytest.mark.parametrize(
        "faults",
        [
            SandboxFaults(delay_ms=25, decline_rate=0.333),
            SandboxFaults(delay_ms=100, decline_rate=0.2),
        ],
    )
    def test_each_value_is_a_step_of_its_slider(self, faults: SandboxFaults) -> None:
        """Browsers move it to the nearest one, and send that."""
        sliders = re.findall(r'step="(\w+)"\s+value="([\d.]+)"', render(faults))
        assert len(sliders) == len(SLIDERS)
        assert {value for _, value in sliders} > {f"{faults.delay_ms}"}
        for step, value in sliders:
            assert step == "any" or not float(value) % float(step), (step, value)

    @pytest.mark.parametrize(
        ("form", "sentence"),
        [
            ({"decline_rate": "101"}, "Declined cards: Input should be less than or equal to 1."),
            ({"delay_ms": "soon"}, "Latency: Input should be a valid integer"),
            ({"decline_rate": "many"}, "The form cannot be read."),
            ({"seed": "x"}, "Seed: Input should be a valid integer"),
            ({"colour": "1"}, "Colour: Extra inputs are not permitted."),
        ],
    )
    async def test_a_wrong_form_changes_nothing_and_says_why(
        self, shop: SandboxShop, form: dict[str, str], sentence: str
    ) -> None:
        await self.send(shop, self.SENT)
        url, origin = f"{shop.url}/faults", {"origin": shop.url}
        async with shop.http.post(url, data=form, headers=origin) as reply:
            assert reply.status == 400
            assert f"Nothing was changed. {sentence}" in await reply.text()
        assert await self.faults(shop) == self.SET

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            # A name that its owner's DNS leads to this machine.
            {"host": "evil.example", "origin": "http://evil.example"},
        ],
    )
    async def test_is_no_use_to_pages_of_other_sites(
        self, shop: SandboxShop, headers: dict[str, str]
    ) -> None:
        assert await self.send(shop, {"decline_rate": "100"}, **headers) == 403
        assert await self.faults(shop) == SandboxFaults()

    async def test_a_form_that_does_not_say_where_it_is_from_is_refused(
        self, shop: SandboxShop
    ) -> None:
        async with shop.http.post(f"{shop.url}/faults", data={"decline_rate": "100"}) as reply:
            assert reply.status == 403
        assert await self.faults(shop) == SandboxFaults()

    @pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "[::1]:8090"])
    async def test_works_under_whatever_a_port_is_forwarded_to(
        self, shop: SandboxShop, host: str
    ) -> None:
        headers = {"host": host, "origin": f"http://{host}"}
        assert await self.send(shop, self.SENT, **headers) == 303

    async def test_runs_no_script_but_its_own(self, shop: SandboxShop) -> None:
        async with shop.http.get(f"{shop.url}/faults") as reply:
            policy, html = reply.headers["Content-Security-Policy"], await reply.text()
        (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
        assert policy.startswith("default-src 'none'")


class TestOwnRoutes:
    async def test_page_escapes_what_it_shows(self, shop: SandboxShop) -> None:
        await shop.pay(order_id="<script>alert(1)</script>")
        async with shop.http.get(shop.url + "/") as reply:
            html = await reply.text()
            assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "&lt;script&gt;alert(1)" in html
        assert "<script" not in html
        assert "25.00 EUR" in html

    async def test_reset_forgets_everything(self, shop: SandboxShop) -> None:
        first = await shop.pay(idempotency_key="k1")
        async with shop.http.delete(f"{shop.url}/sandbox/ledger") as reply:
            assert reply.status == 204
        ledger = await shop.ledger()
        assert (ledger["payment_intents"], ledger["requests"]) == ([], {})
        assert (await shop.pay(idempotency_key="k1")).id != first.id

    async def test_reset_is_refused_unless_it_was_allowed(self) -> None:
        async with running(SandboxSettings(port=0)) as url, shop_at(url) as shop:
            await shop.pay()
            async with shop.http.delete(f"{shop.url}/sandbox/ledger") as reply:
                assert reply.status == 403
            assert (await shop.ledger())["totals"]["payment_intents"] == 1

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("DELETE", "/sandbox/ledger"), ("POST", "/sandbox/faults")]
    )
    async def test_pages_of_other_sites_change_nothing(
        self, shop: SandboxShop, headers: dict[str, str], method: str, path: str
    ) -> None:
        await shop.pay()
        body = '{"failure_rate": 1}' if method == "POST" else None
        sent = {"content-type": "application/json", **headers}
        async with shop.http.request(method, shop.url + path, data=body, headers=sent) as reply:
            assert reply.status == 403
        assert (await shop.ledger())["totals"]["payment_intents"] == 1
        async with shop.http.get(f"{shop.url}/sandbox/faults") as reply:
            assert await reply.json() == SandboxFaults().model_dump()

    @pytest.mark.parametrize("host", ["", "a, b"])
    async def test_a_host_that_is_none_is_refused(self, shop: SandboxShop, host: str) -> None:
        async with shop.http.get(f"{shop.url}/livez", headers={"host": host}) as reply:
            assert reply.status == 400

    async def test_a_page_of_its_own_may_change_it(self, shop: SandboxShop) -> None:
        headers = {"origin": shop.url, "sec-fetch-site": "same-origin"}
        async with shop.http.delete(f"{shop.url}/sandbox/ledger", headers=headers) as reply:
            assert reply.status == 204

    async def test_redirects_are_relative(self, shop: SandboxShop) -> None:
        url = f"{shop.url}/sandbox/ledger/?limit=1"
        async with shop.http.get(url, allow_redirects=False) as reply:
            assert (reply.status, reply.headers["location"]) == (307, "/sandbox/ledger?limit=1")

    async def test_a_405_names_all_methods_of_the_path(self, shop: SandboxShop) -> None:
        async with shop.http.put(f"{shop.url}/sandbox/faults") as reply:
            assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, POST")

    @pytest.mark.parametrize(
        ("kind", "body", "status"),
        [
            ("application/json", bytes(MAX_BODY_BYTES + 1), 413),
            ("text/plain", b"{}", 415),
        ],
    )
    async def test_a_body_that_stays_unread_ends_the_connection(
        self, shop: SandboxShop, kind: str, body: bytes, status: int
    ) -> None:
        reader, writer = await asyncio.open_connection(*shop.url.removeprefix("http://").split(":"))
        writer.write(
            f"POST /sandbox/faults HTTP/1.1\r\nhost: sandbox\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body) + 10}\r\n\r\n".encode()
            + body
        )
        answer = (await asyncio.wait_for(reader.read(), 5)).lower()  # to the connection's end
        assert answer.startswith(f"http/1.1 {status} ".encode())
        assert b"connection: close" in answer
        writer.close()

    async def test_a_request_that_a_stop_cuts_off_may_be_repeated(self) -> None:
        async with running(SandboxSettings(port=0, drain_seconds=1)) as url:
            reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
            writer.write(
                b"POST /v1/refunds HTTP/1.1\r\nhost: sandbox\r\ncontent-length: 9\r\n\r\nhalf"
            )
            await writer.drain()
            async with shop_at(url) as shop:  # by its answer, the request before has begun
                await shop.ledger()
        answer = (await asyncio.wait_for(reader.read(), 5)).lower()
        assert answer.startswith(b"http/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "api_error"
        writer.close()

    async def test_probes(self, shop: SandboxShop) -> None:
        for path in ("/livez", "/readyz"):
            async with shop.http.get(shop.url + path) as reply:
                assert (reply.status, await reply.json()) == (200, {"status": "ok"})


class TestSandboxSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SANDBOX_PORT", "http"),
            ("SANDBOX_FAULTS__FAILURE_RATE", "2"),
            ("SANDBOX_ALLOW_RESET", "perhaps"),
        ],
    )
    def test_a_wrong_one_is_named_in_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=rf"^The setting {name} is wrong: .*\.$"):
            read_settings()

    def test_faults_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SANDBOX_FAULTS", '{"delay_ms": 5, "seed": 3}')
        monkeypatch.setenv("SANDBOX_FAULTS__LOST_REPLY_RATE", "0.5")
        assert read_settings().faults == SandboxFaults(delay_ms=5, seed=3, lost_reply_rate=0.5)
        monkeypatch.setenv("SANDBOX_FAULTS", "{")
        with pytest.raises(ConfigurationError, match="JSON"):
            read_settings()

    async def test_a_taken_port_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} cannot be used"):
                async with running(SandboxSettings(port=port)):
                    pass

    async def test_a_data_directory_in_use_is_named(self, tmp_path: Path) -> None:
        settings = SandboxSettings(port=0, data_dir=tmp_path)
        async with running(settings):
            with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path))):
                async with running(settings):
                    pass

    async def test_https_has_a_port_of_its_own(self, certificate: Path) -> None:
        port = free_port()
        settings = SandboxSettings(port=0, tls_port=port, tls_certificate=certificate)
        trust = ssl.create_default_context(cafile=certificate)
        async with running(settings) as url, aiohttp.ClientSession() as http:
            async with http.get(
                f"https://127.0.0.1:{port}/livez", ssl=trust, server_hostname="api.stripe.com"
            ) as reply:
                assert reply.status == 200
            async with http.get(f"{url}/livez") as reply:
                assert reply.status == 200

    @pytest.mark.parametrize("content", [None, "no certificate"])
    async def test_https_without_a_usable_certificate_is_refused(
        self, tmp_path: Path, content: str | None
    ) -> None:
        file = tmp_path / "certificate.pem" if content else None
        if file is not None:
            file.write_text(content or "", encoding="utf-8")
        settings = SandboxSettings(port=0, tls_port=0, tls_certificate=file)
        with pytest.raises(ConfigurationError, match=r"(?i)certificate"):
            async with running(settings):
                pass


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for api.stripe.com that vouches for itself, with its key, as one PEM file."""
    file = tmp_path / "stripe.pem"
    file.write_bytes(self_signed("api.stripe.com").certificate_and_key)
    return file


@asynccontextmanager
async def sandbox_process(
    data: Path, **environment: str
) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    """The sandbox as a process of its own, and its URL."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        env=os.environ | {"SANDBOX_PORT": "0", "SANDBOX_DATA_DIR": str(data)} | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        yield line.decode().split()[-1], process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


class TestProcess:
    async def test_remembers_effects_and_answers_after_kill_9(self, tmp_path: Path) -> None:
        async with sandbox_process(tmp_path) as (url, process), shop_at(url) as shop:
            paid = await shop.pay(idempotency_key="authorize")
            await shop.api.payment_intents.capture_async(
                paid.id, options={"idempotency_key": "capture"}
            )
            with pytest.raises(stripe.CardError):
                await shop.pay("pm_card_visa_chargeDeclined", idempotency_key="declined")
            await shop.misbehave(lost_reply_rate=1)
            with pytest.raises(stripe.APIConnectionError):
                await shop.pay(order_id="lost", idempotency_key="lost")
            before = await shop.ledger()
            process.kill()
            await process.wait()

        async with sandbox_process(tmp_path) as (url, _), shop_at(url) as shop:
            after = await shop.ledger()
            assert after["payment_intents"] == before["payment_intents"]
            assert after["totals"] == before["totals"]
            assert (await shop.pay(idempotency_key="authorize")).id == paid.id
            with pytest.raises(stripe.CardError):
                await shop.pay("pm_card_visa_chargeDeclined", idempotency_key="declined")
            found = await shop.pay(order_id="lost", idempotency_key="lost")
            assert found.id == only_intent(await shop.ledger(order_id="lost"))["id"]
            assert (await shop.ledger())["totals"] == before["totals"]

    async def test_killed_amid_a_burst_has_what_it_acknowledged_and_nothing_twice(
        self, tmp_path: Path
    ) -> None:
        keys = [f"k{n}" for n in range(60)]
        async with sandbox_process(tmp_path) as (url, process), shop_at(url) as shop:
            first_ten = asyncio.Semaphore(0)
            acknowledged: dict[str, str] = {}

            async def pay(key: str) -> None:
                acknowledged[key] = (await shop.pay(order_id=key, idempotency_key=key)).id
                first_ten.release()

            paying = [asyncio.create_task(pay(key)) for key in keys]
            for _ in range(10):
                await first_ten.acquire()
            process.kill()
            await asyncio.gather(*paying, return_exceptions=True)

        async with sandbox_process(tmp_path) as (url, _), shop_at(url) as shop:
            for key in keys:
                again = await shop.pay(order_id=key, idempotency_key=key)
                assert acknowledged.get(key, again.id) == again.id
            assert (await shop.ledger())["totals"]["payment_intents"] == len(keys)

    async def test_lets_requests_in_flight_finish_on_sigterm(self, tmp_path: Path) -> None:
        async with (
            sandbox_process(tmp_path, SANDBOX_FAULTS__DELAY_MS="300") as (url, process),
            shop_at(url) as shop,
        ):
            both = {asyncio.create_task(shop.pay(idempotency_key="k1")) for _ in range(2)}
            (refused,), (paying,) = await asyncio.wait(
                both, return_when=asyncio.FIRST_COMPLETED
            )  # the one that is refused at once shows that the other is in flight
            assert isinstance(refused.exception(), stripe.APIError)
            process.send_signal(signal.SIGTERM)
            assert (await paying).status == "requires_capture"
            assert await asyncio.wait_for(process.wait(), START_SECONDS) == 0

    async def test_does_not_start_with_a_wrong_setting(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            env=os.environ | {"SANDBOX_PORT": "many"},
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await process.communicate()
        assert process.returncode == 1
        assert stderr.decode().startswith("The setting SANDBOX_PORT is wrong: ")
        assert stderr.decode().count("\n") == 1


def test_a_stored_payment_reads_back_as_it_was() -> None:
    intent = PaymentIntent(
        id="pi_1",
        client_secret="pi_1_secret",
        created=1,
        amount=100,
        currency="eur",
        capture_method="manual",
        payment_method_types=["card"],
        automatic_payment_methods=None,
        status=Status("requires_capture"),
    )
    assert intent.status is Status.REQUIRES_CAPTURE
