"""What each request asks for: its parameters, checked first, and its effect on the books."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from stand_ins.stripe import model
from stand_ins.stripe.cards import CARDS, DECLINED_CARD, TestCard
from stand_ins.stripe.errors import invalid, missing, unexpected_state
from stand_ins.stripe.model import Dispute, PaymentIntent, Refund, Status
from stand_ins.stripe.params import Params
from stand_ins.stripe.store import Books

CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
CANCELLATION_REASONS = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")
REFUND_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
DEFAULT_PAGE, MAX_PAGE = 10, 100
END_OF_TIME = 2**40


class Command(Protocol):
    def run(self, books: Books, now: int) -> dict[str, Any]:
        """The answer's body. A `StripeError` is an answer too: what was written before it stays."""
        ...


ReadCommand = Callable[[Params, str], Command]
"""Makes a command of the parameters and the id in the path ("" where there is none), or raises a
400 `StripeError`."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How a payment is to be confirmed."""

    card: str | None
    error_on_requires_action: bool
    return_url: str | None

    def run(self, books: Books, intent: PaymentIntent, now: int) -> dict[str, Any]:
        """Confirms an intent that is in the books already."""
        if self.card is not None:
            intent = intent.with_card(self.card)
        if intent.card is None:
            raise unexpected_state(
                "You cannot confirm this PaymentIntent because it's missing a payment method.",
                intent.json(),
            )
        confirmed, refusal = model.confirm(
            intent,
            CARDS[intent.card],
            now,
            error_on_requires_action=self.error_on_requires_action,
            return_url=self.return_url,
        )
        books.replace_intent(confirmed)
        if refusal is not None:
            raise refusal
        _dispute(books, confirmed, now)
        return confirmed.json()


@dataclass(frozen=True, slots=True)
class CreateIntent:
    amount: int
    currency: str
    capture_method: str
    payment_method_types: list[str]
    automatic_payment_methods: dict[str, Any] | None
    description: str | None
    metadata: dict[str, str]
    card: str | None
    confirmation: Confirmation | None

    def run(self, books: Books, now: int) -> dict[str, Any]:
        intent = self._intent(now)
        books.add_intent(intent)
        return (
            intent.json()
            if self.confirmation is None
            else self.confirmation.run(books, intent, now)
        )

    def check(self) -> None:
        model.check_amount(self.amount, self.currency)
        if self.confirmation is not None:
            model.check_return_url(self._intent(0), self.confirmation.return_url)

    def _intent(self, now: int) -> PaymentIntent:
        identifier = model.new_id("pi")
        intent = PaymentIntent(
            id=identifier,
            client_secret=f"{identifier}_{model.new_id('secret')}",
            created=now,
            amount=self.amount,
            currency=self.currency,
            capture_method=self.capture_method,
            payment_method_types=self.payment_method_types,
            automatic_payment_methods=self.automatic_payment_methods,
            status=Status.REQUIRES_PAYMENT_METHOD,
            description=self.description,
            metadata=self.metadata,
        )
        return intent if self.card is None else intent.with_card(self.card)


@dataclass(frozen=True, slots=True)
class UpdateIntent:
    intent: str
    params: Params

    def run(self, books: Books, now: int) -> dict[str, Any]:  # noqa: ARG002  as every command
        intent = _intent(books, self.intent)
        updated = replace(intent, metadata=self.params.updated_metadata(intent.metadata))
        books.replace_metadata(intent, updated)
        return updated.json()


@dataclass(frozen=True, slots=True)
class ConfirmIntent:
    intent: str
    confirmation: Confirmation

    def run(self, books: Books, now: int) -> dict[str, Any]:
        intent = _intent(books, self.intent)
        model.check_confirmable(intent)
        model.check_return_url(intent, self.confirmation.return_url)
        return self.confirmation.run(books, intent, now)


@dataclass(frozen=True, slots=True)
class CaptureIntent:
    intent: str
    amount_to_capture: int | None

    def run(self, books: Books, now: int) -> dict[str, Any]:
        captured = model.capture(_intent(books, self.intent), self.amount_to_capture)
        books.replace_intent(captured)
        _dispute(books, captured, now)
        return captured.json()


@dataclass(frozen=True, slots=True)
class CancelIntent:
    intent: str
    reason: str | None

    def run(self, books: Books, now: int) -> dict[str, Any]:
        canceled = model.cancel(_intent(books, self.intent), self.reason, now)
        books.replace_intent(canceled)
        return canceled.json()


@dataclass(frozen=True, slots=True)
class CreateRefund:
    intent: str
    amount: int | None
    reason: str | None
    metadata: dict[str, str]

    def run(self, books: Books, now: int) -> dict[str, Any]:
        intent = _intent(books, self.intent, param="payment_intent")
        refund = model.refund(
            intent,
            books.refunded(intent.id),
            self.amount,
            now,
            card=_card_of(intent),
            is_disputed=bool(books.disputes(1, range(END_OF_TIME), of=intent.id)),
            reason=self.reason,
            metadata=self.metadata,
        )
        books.add_refund(refund)
        return refund.json()


@dataclass(frozen=True, slots=True)
class Lookup:
    """A request that only reads."""

    look: Callable[[Books], dict[str, Any]]

    def run(self, books: Books, now: int) -> dict[str, Any]:  # noqa: ARG002  as every command
        return self.look(books)


def with_declined_card(command: Command) -> Command:
    """The same command, with a card that is declined where it confirms a payment."""
    if isinstance(command, CreateIntent | ConfirmIntent) and command.confirmation is not None:
        declined = replace(command.confirmation, card=DECLINED_CARD)
        return replace(command, confirmation=declined)
    return command


def create_intent(params: Params, _: str) -> Command:
    amount = params.required_positive("amount")
    currency = params.required_text("currency").lower()
    types, automatic = _accepted_methods(params)
    card = _card(params)
    confirm = params.flag("confirm") or False
    for name in () if confirm else ("error_on_requires_action", "return_url"):
        if params.text(name) is not None:
            raise invalid(f"`{name}` can only be passed when `confirm` is true.", param=name)
    if confirm and card is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="parameter_missing",
            param="payment_method",
        )
    command = CreateIntent(
        amount=amount,
        currency=currency,
        capture_method=params.choice("capture_method", among=CAPTURE_METHODS) or "automatic_async",
        payment_method_types=types,
        automatic_payment_methods=automatic,
        description=params.text("description", max_length=1000),
        metadata=params.metadata(),
        card=card,
        confirmation=_confirmation(params, None) if confirm else None,
    )
    params.finish()
    command.check()
    return command


def update_intent(params: Params, identifier: str) -> Command:
    """Of the metadata only, in whatever state the intent is."""
    params.metadata()
    params.finish()
    return UpdateIntent(identifier, params)


def confirm_intent(params: Params, identifier: str) -> Command:
    confirmation = _confirmation(params, _card(params))
    params.finish()
    return ConfirmIntent(identifier, confirmation)


def capture_intent(params: Params, identifier: str) -> Command:
    amount = params.positive("amount_to_capture")
    params.finish()
    return CaptureIntent(identifier, amount)


def cancel_intent(params: Params, identifier: str) -> Command:
    reason = params.choice("cancellation_reason", among=CANCELLATION_REASONS)
    params.finish()
    return CancelIntent(identifier, reason)


def retrieve_intent(params: Params, identifier: str) -> Command:
    params.finish()
    return Lookup(lambda books: _intent(books, identifier).json())


def list_intents(params: Params, _: str) -> Command:
    limit, after = _page(params)
    created = _created(params)
    params.finish()

    def look(books: Books) -> dict[str, Any]:
        if after is not None and books.intent(after) is None:
            raise missing("payment_intent", after, "starting_after", status=400)
        return _list(books.intents(limit + 1, created, after), limit, "/v1/payment_intents")

    return Lookup(look)


def search_intents(params: Params, _: str) -> Command:
    """By metadata, at once; the real search lags (docs.stripe.com/search#data-freshness)."""
    limit = _limit(params)
    query = params.required_text("query")
    params.finish()
    clauses = _clauses(query)
    key, value = clauses[0]

    def look(books: Books) -> dict[str, Any]:
        found = books.intents_with(key, value, MAX_PAGE)
        fitting = [i for i in found if all(i.metadata.get(k) == v for k, v in clauses)]
        page = _list(fitting, limit, "/v1/payment_intents/search")
        return page | {"object": "search_result", "next_page": None}

    return Lookup(look)


def create_refund(params: Params, _: str) -> Command:
    command = CreateRefund(
        intent=params.required_text("payment_intent"),
        amount=params.positive("amount"),
        reason=params.choice("reason", among=REFUND_REASONS),
        metadata=params.metadata(),
    )
    params.finish()
    return command


def retrieve_refund(params: Params, identifier: str) -> Command:
    params.finish()

    def look(books: Books) -> dict[str, Any]:
        refund = books.refund(identifier)
        if refund is None:
            raise missing("refund", identifier, "refund")
        return refund.json()

    return Lookup(look)


def list_refunds(params: Params, _: str) -> Command:
    limit, after = _page(params)
    of = params.text("payment_intent")
    params.finish()

    def look(books: Books) -> dict[str, Any]:
        if of is not None:
            _intent(books, of, param="payment_intent")
        if after is not None and books.refund(after) is None:
            raise missing("refund", after, "starting_after", status=400)
        return _list(books.refunds(limit + 1, of=of, after=after), limit, "/v1/refunds")

    return Lookup(look)


def retrieve_dispute(params: Params, identifier: str) -> Command:
    params.finish()

    def look(books: Books) -> dict[str, Any]:
        dispute = books.dispute(identifier)
        if dispute is None:
            raise missing("dispute", identifier, "dispute")
        return dispute.json()

    return Lookup(look)


def list_disputes(params: Params, _: str) -> Command:
    limit, after = _page(params)
    created = _created(params)
    of = params.text("payment_intent")
    params.finish()

    def look(books: Books) -> dict[str, Any]:
        if of is not None:
            _intent(books, of, param="payment_intent")
        if after is not None and books.dispute(after) is None:
            raise missing("dispute", after, "starting_after", status=400)
        found = books.disputes(limit + 1, created, of=of, after=after)
        return _list(found, limit, "/v1/disputes")

    return Lookup(look)


def _intent(books: Books, identifier: str, param: str = "intent") -> PaymentIntent:
    intent = books.intent(identifier)
    if intent is None:
        raise missing("payment_intent", identifier, param)
    return intent


def _card_of(intent: PaymentIntent) -> TestCard:
    """The card that an intent is paid with; a plain one where there is none."""
    return CARDS[intent.card or "pm_card_visa"]


def _dispute(books: Books, intent: PaymentIntent, now: int) -> None:
    dispute = model.dispute(intent, _card_of(intent), now)
    if dispute is not None:
        books.add_dispute(dispute)


def _card(params: Params) -> str | None:
    name = params.text("payment_method")
    if name is not None and name not in CARDS:
        raise missing("PaymentMethod", name, "payment_method", status=400)
    return name


def _confirmation(params: Params, card: str | None) -> Confirmation:
    return Confirmation(
        card=card,
        error_on_requires_action=params.flag("error_on_requires_action") or False,
        return_url=params.text("return_url", max_length=2000),
    )


def _accepted_methods(params: Params) -> tuple[list[str], dict[str, Any] | None]:
    """``payment_method_types``, or ``automatic_payment_methods``, which is the default."""
    types = params.texts("payment_method_types")
    enabled = params.flag("automatic_payment_methods", "enabled")
    redirects = params.choice(
        "automatic_payment_methods", "allow_redirects", among=("always", "never")
    )
    if types and enabled:
        raise invalid(
            "You may only specify one of these parameters: "
            "automatic_payment_methods, payment_method_types.",
            param="payment_method_types",
        )
    if types and types != ["card"]:
        raise invalid("The sandbox knows cards only.", param="payment_method_types")
    if redirects is not None and enabled is None:
        name = "automatic_payment_methods[enabled]"
        raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    if types or enabled is False:
        return ["card"], None
    return ["card"], {"allow_redirects": redirects or "always", "enabled": True}


def _limit(params: Params) -> int:
    limit = params.positive("limit") or DEFAULT_PAGE
    if limit > MAX_PAGE:
        raise invalid(
            f"This value must be less than or equal to {MAX_PAGE}.",
            code="parameter_invalid_integer",
            param="limit",
        )
    return limit


def _page(params: Params) -> tuple[int, str | None]:
    return _limit(params), params.text("starting_after")


def _created(params: Params) -> range:
    """The seconds that ``created[gte]`` and its like allow."""
    exactly = params.positive("created")
    if exactly is not None:
        return range(exactly, exactly + 1)
    at_least, above = params.positive("created", "gte"), params.positive("created", "gt")
    at_most, below = params.positive("created", "lte"), params.positive("created", "lt")
    start = max(at_least or 0, above + 1 if above else 0)
    end = min(at_most + 1 if at_most else END_OF_TIME, below or END_OF_TIME)
    return range(start, end)


def _list(
    found: Sequence[PaymentIntent | Refund | Dispute], limit: int, url: str
) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [each.json() for each in found[:limit]],
        "has_more": len(found) > limit,
        "url": url,
    }


_CLAUSE = re.compile(
    r"""\s*metadata\[(["'])(?P<key>[^"'\[\]]+)\1\]\s*:\s*(["'])(?P<value>.*?)\3\s*"""
)


def _clauses(query: str) -> list[tuple[str, str]]:
    """The pairs of ``metadata['key']:'value' AND …``, the one form that the sandbox knows."""
    clauses: list[tuple[str, str]] = []
    for part in re.split(r"\s+AND\s+", query):
        match = _CLAUSE.fullmatch(part)
        if match is None:
            raise invalid(
                "The sandbox can search for metadata['key']:'value' only, combined with AND.",
                param="query",
            )
        clauses.append((match["key"], match["value"]))
    return clauses
