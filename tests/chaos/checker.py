"""The checker: the shop's books against each other, and against what its customers were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from services.audit.invariants import Violation
from services.audit.snapshot import Snapshot
from services.order.model import BY_CUSTOMER, NOT_COMPLETED, Order, OrderState
from services.shipping.model import ShipmentState
from tests.chaos.checkout import SCARCE, Checkout
from tests.chaos.history import Action, CheckoutHistory, History
from tests.chaos.mails import Mail
from tests.chaos.model import is_fair_refusal, may_end_as, standing_of, steps_back
from tests.testkit.customer import ADDRESS
from tests.testkit.invariants import violations_of


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run, once the shop is quiet.

    :ivar mails: None where the shop had no mail server.
    :ivar restored: the services whose stores were put back to an older copy.
    """

    snapshot: Snapshot
    history: History
    initial_stock: Mapping[str, int]
    mails: Collection[Mail] | None = None
    restored: Collection[str] = ()


def violations(evidence: Evidence) -> Iterator[Violation]:
    """All that must not be."""
    snapshot, history = evidence.snapshot, evidence.history
    yield from violations_of(snapshot, evidence.initial_stock, evidence.restored)
    for one in history:
        order = snapshot.orders.get(one.order_id)
        checkout = history.checkout_of(one)
        found = (
            _without_order(one, checkout)
            if order is None
            else _with_order(one, checkout, order, evidence.restored)
        )
        for what in found:
            yield Violation(one.order_id, what)
    for order_id in snapshot.orders.keys() - history.by_order.keys():
        yield Violation(order_id, "nobody has asked for this order")
    for shipment in snapshot.shipments.values():
        if shipment.state not in {ShipmentState.DELIVERED, ShipmentState.CANCELLED}:
            yield Violation(shipment.id, f"its parcel got no further than {shipment.state}")
    if evidence.mails is not None:
        yield from _mail_violations(snapshot, evidence.mails)


def details_of(evidence: Evidence, subject: str) -> str:
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
    one = evidence.history.by_order.get(subject)
    if one is not None:
        lines.append(str(evidence.history.checkout_of(one)))
        lines += [str(op) for op in one.ops]
    return "\n  ".join([subject, *lines])


def _without_order(one: CheckoutHistory, checkout: Checkout) -> Iterator[str]:
    for op in one.ops:
        if standing_of(op) is not None or op.reason == "idempotency-key-reused":
            yield f"there is no such order, but its customer was told of it: {op}"
        elif not is_fair_refusal(op, checkout):
            yield f"an answer that nothing explains: {op}"


def _with_order(
    one: CheckoutHistory, checkout: Checkout, order: Order, restored: Collection[str]
) -> Iterator[str]:
    yield from _not_as_asked(order, one, checkout)
    yield from _unexplained_end(order, one, checkout, restored)
    for op in one.ops:
        standing = standing_of(op)
        if op.order_id not in {None, order.id}:
            yield f"the answer names another order, {op.order_id}: {op}"
        if op.total_cents not in {None, order.total_cents}:
            yield f"it costs {order.total_cents} cents, but its customer was told: {op}"
        if op.action is Action.PLACE_OTHER and standing is not None:
            yield f"something else could be ordered under its key: {op}"
        elif standing is None:
            if not is_fair_refusal(op, checkout):
                yield f"an answer that nothing explains: {op}"
        elif not may_end_as(standing, op, order):
            reason = order.reason.code if order.reason else ""
            yield f"it ended {order.state} {reason}, but its customer was told: {op}"
    for former, later in steps_back(one):
        yield f"it went back: {former}, then {later}"


def _not_as_asked(order: Order, one: CheckoutHistory, checkout: Checkout) -> Iterator[str]:
    if not checkout.is_possible:
        yield "it has a product that does not exist"
    asked = (one.user_id, dict(checkout.items), checkout.payment_method, dict(ADDRESS))
    items = {line.product_id: line.quantity for line in order.lines}
    placed = (order.user_id, items, order.payment_method, order.address.model_dump())
    if placed != asked:
        yield f"placed was {placed}, but asked for {asked}"


def _unexplained_end(
    order: Order, one: CheckoutHistory, checkout: Checkout, restored: Collection[str]
) -> Iterator[str]:
    if order.state is OrderState.CONFIRMED and checkout.decline_code is not None:
        yield f"it is paid with {checkout.payment_method}, which is always declined"
    if order.state is OrderState.CANCELLED:
        explained = {"checkout-unavailable", checkout.decline_code}
        if not checkout.items.keys().isdisjoint(SCARCE):
            explained.add("out-of-stock")
        if one.asked_to_cancel:
            explained.add(BY_CUSTOMER)
        if restored:
            explained.add(NOT_COMPLETED)
        if order.reason is None or order.reason.code not in explained:
            yield f"nothing explains why it was cancelled: {order.reason}"


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
