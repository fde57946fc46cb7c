"""What was wrong in a run: the books of the shop against each other, and against what its customers
were told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from pydantic import BaseModel

from services.audit.invariants import Violation
from services.audit.snapshot import Snapshot
from services.order.model import BY_CUSTOMER, NOT_COMPLETED, Order, State
from services.shipping.model import State as ShipmentState
from tests.chaos.checkout import SCARCE, Checkout
from tests.chaos.journal import UNDECIDED, Asked, Entry, Journal, Told
from tests.chaos.mails import Mail
from tests.testkit.customer import ADDRESS
from tests.testkit.invariants import violations_of

_UNDER_WAY = "shipment-under-way"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run, once the shop is quiet.

    :ivar mails: None where the shop had no mail server.
    :ivar restored: the services whose stores were put back to an older copy.
    """

    snapshot: Snapshot
    journal: Journal
    initial_stock: Mapping[str, int]
    mails: Collection[Mail] | None = None
    restored: Collection[str] = ()


def violations(evidence: Evidence) -> Iterator[Violation]:
    """All that must not be."""
    snapshot, journal = evidence.snapshot, evidence.journal
    yield from violations_of(snapshot, evidence.initial_stock, evidence.restored)
    for entry in journal:
        order = snapshot.orders.get(entry.order_id)
        checkout = journal.checkout_of(entry)
        found = (
            _without_order(entry, checkout)
            if order is None
            else _with_order(entry, checkout, order, evidence.restored)
        )
        for what in found:
            yield Violation(entry.order_id, what)
    for order_id in snapshot.orders.keys() - journal.entries.keys():
        yield Violation(order_id, "nobody has asked for this order")
    for shipment in snapshot.shipments.values():
        if shipment.state not in {ShipmentState.DELIVERED, ShipmentState.CANCELLED}:
            yield Violation(shipment.id, f"its parcel got no further than {shipment.state}")
    if evidence.mails is not None:
        yield from _mail_violations(snapshot, evidence.mails)


def history_of(evidence: Evidence, subject: str) -> str:
    """All that is known of an order (or a product's stock), for a person to read."""
    snapshot = evidence.snapshot
    documents: list[BaseModel | None] = [
        snapshot.stock.get(subject),
        snapshot.orders.get(subject),
        snapshot.reservations.get(subject),
        snapshot.payments.get(subject),
        snapshot.shipments.get(subject),
        *snapshot.messages_of(subject),
    ]
    lines = [
        f"{type(document).__name__}: {document.model_dump_json(exclude_defaults=True)}"
        for document in documents
        if document is not None
    ]
    lines += [str(intent) for intent in snapshot.ledger.intents.get(subject, ())]
    lines += [str(refund) for refund in snapshot.ledger.refunds_of(subject)]
    lines += [str(mail) for mail in evidence.mails or () if mail.order_id == subject]
    entry = evidence.journal.entries.get(subject)
    if entry is not None:
        lines.append(str(evidence.journal.checkout_of(entry)))
        lines += [str(told) for told in entry.answers]
    return "\n  ".join([subject, *lines])


class _Standing(NamedTuple):
    """What an answer says about where the order stands. `reason` is why it is (being) cancelled."""

    state: State
    reason: str | None = None


def _standing(told: Told) -> _Standing | None:
    """None for an answer that does not tell."""
    if told.state is not None:
        return _Standing(State(told.state), told.reason)
    if told.order_id is not None:
        return _Standing(State.CANCELLED, told.reason)
    if told.asked is Asked.CANCEL and told.status == 409:
        if told.reason == _UNDER_WAY:
            return _Standing(State.CONFIRMED)
        if told.reason == "order-in-progress":
            return _Standing(State.WORKING)
    return None


def _without_order(entry: Entry, checkout: Checkout) -> Iterator[str]:
    for told in entry.answers:
        if _standing(told) is not None or told.reason == "idempotency-key-reused":
            yield f"there is no such order, but its customer was told of it: {told}"
        elif not _is_fair_refusal(told, checkout):
            yield f"an answer that nothing explains: {told}"


def _with_order(
    entry: Entry, checkout: Checkout, order: Order, restored: Collection[str]
) -> Iterator[str]:
    yield from _not_as_asked(order, entry, checkout)
    yield from _unexplained_end(order, entry, checkout, restored)
    for told in entry.answers:
        standing = _standing(told)
        if told.order_id not in {None, order.id}:
            yield f"the answer names another order, {told.order_id}: {told}"
        if told.total_cents not in {None, order.total_cents}:
            yield f"it costs {order.total_cents} cents, but its customer was told: {told}"
        if told.asked is Asked.PLACE_OTHER and standing is not None:
            yield f"something else could be ordered under its key: {told}"
        elif standing is None:
            if not _is_fair_refusal(told, checkout):
                yield f"an answer that nothing explains: {told}"
        elif not _may_end_as(standing, order) or (
            told.reason == _UNDER_WAY and order.state is not State.CONFIRMED
        ):
            reason = order.reason.code if order.reason else ""
            yield f"it ended {order.state} {reason}, but its customer was told: {told}"
    yield from _steps_back(entry)


def _not_as_asked(order: Order, entry: Entry, checkout: Checkout) -> Iterator[str]:
    if not checkout.is_possible:
        yield "it has a product that does not exist"
    asked = (entry.user_id, dict(checkout.items), checkout.payment_method, dict(ADDRESS))
    items = {line.product_id: line.quantity for line in order.lines}
    placed = (order.user_id, items, order.payment_method, order.address.model_dump())
    if placed != asked:
        yield f"placed was {placed}, but asked for {asked}"


def _unexplained_end(
    order: Order, entry: Entry, checkout: Checkout, restored: Collection[str]
) -> Iterator[str]:
    if order.state is State.CONFIRMED and checkout.decline_code is not None:
        yield f"it is paid with {checkout.payment_method}, which is always declined"
    if order.state is State.CANCELLED:
        explained = {"checkout-unavailable", checkout.decline_code}
        if not checkout.items.keys().isdisjoint(SCARCE):
            explained.add("out-of-stock")
        if entry.asked_to_cancel:
            explained.add(BY_CUSTOMER)
        if restored:
            explained.add(NOT_COMPLETED)
        if order.reason is None or order.reason.code not in explained:
            yield f"nothing explains why it was cancelled: {order.reason}"


def _may_end_as(standing: _Standing, order: Order) -> bool:
    """Whether the order may have gone on from there to where it is."""
    reason = order.reason.code if order.reason else None
    match standing.state:
        case State.WORKING:
            return True
        case State.CONFIRMED:
            return order.state is State.CONFIRMED or (
                order.state is State.CANCELLED and reason == BY_CUSTOMER and order.was_confirmed
            )
        case State.CANCELLING if order.state is State.CONFIRMED:
            return standing.reason == BY_CUSTOMER  # it was on its way already
        case _:
            return order.state is State.CANCELLED and reason == standing.reason


def _is_fair_refusal(told: Told, checkout: Checkout) -> bool:
    """Whether an answer that tells nothing about the order may be given."""
    if told.status in UNDECIDED:
        return True
    if told.asked is Asked.PLACE_OTHER:
        return (told.status, told.reason) == (422, "idempotency-key-reused")
    is_unknown = (told.status, told.reason) == (422, "unknown-product")
    return told.asked is Asked.PLACE and is_unknown and not checkout.is_possible


def _steps_back(entry: Entry) -> Iterator[str]:
    """Of requests that did not overlap, the later one may not show an earlier state."""
    told_standings = [
        (told, standing.state) for told in entry.answers if (standing := _standing(told))
    ]
    for (one, state), (other, other_state) in combinations(told_standings, 2):
        (former, before), (later, after) = sorted(
            ((one, state), (other, other_state)), key=lambda each: each[0].sent_seconds
        )
        if former.answered_seconds > later.sent_seconds:
            continue
        if after is State.WORKING is not before or after is not State.CANCELLED is before:
            yield f"it went back: {former}, then {later}"


def _mail_violations(snapshot: Snapshot, mails: Collection[Mail]) -> Iterator[Violation]:
    unclaimed: defaultdict[tuple[str, str], list[Mail]] = defaultdict(list)
    for mail in mails:
        unclaimed[mail.order_id, mail.kind].append(mail)
    for message in snapshot.messages.values():
        if not message.order_id:
            continue  # about the account; the sink keeps no such mails
        found = unclaimed.pop((message.order_id, message.kind), [])
        if [mail.recipient for mail in found] != [message.email]:
            yield Violation(
                message.order_id, f"its {message.kind} mails to {message.email} are {found}"
            )
    for (order_id, kind), found in unclaimed.items():
        yield Violation(order_id, f"there is no {kind} message, but {found}")
