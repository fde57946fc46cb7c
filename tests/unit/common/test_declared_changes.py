"""What may change of a document is declared with the types that its fields have."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from services.auth.model.sessions import Session
from services.common.documents import Document
from services.inventory.model import Reservation
from services.notification.model import Message
from services.order.model import Order
from services.payment.model import Payment
from services.shipping.model import Shipment
from services.user.model import User

CHANGING: list[Any] = [Message, Order, Payment, Reservation, Session, Shipment, User]


@pytest.mark.parametrize("model", CHANGING)
def test_changes_have_the_types_of_the_fields(model: Any) -> None:
    (changes,) = get_args(get_type_hints(model.changed)["to"])
    declared = get_type_hints(changes)
    fields = get_type_hints(model)
    assert declared == {name: fields[name] for name in declared}
    assert "id" not in declared


def test_no_document_that_changes_is_left_out() -> None:
    def below(kind: type[Document]) -> set[type[Document]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    changing = {kind for kind in below(Document) if hasattr(kind, "changed")}
    assert {kind for kind in changing if kind.__module__.startswith("services.")} == set(CHANGING)
