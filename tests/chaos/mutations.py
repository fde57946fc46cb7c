"""The shop with one of its safeguards switched off, to show that a chaos run notices.

``python -m tests.chaos.mutations NAME …`` is ``python -m services …`` otherwise. The processes are
forked from one that has loaded and changed the code.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

from services.__main__ import main
from services.common.documents import Documents, Stored
from services.inventory.model import Reservation, ReservationState, Stock
from services.inventory.service import InventoryService
from services.inventory.store import ReservationStore
from services.order.saga import Saga
from services.payment.model import Payment


def without_idempotency_key() -> None:
    """Stripe cannot tell a repeated authorization from a new one."""

    def fresh_key(_: Payment) -> str:
        return uuid.uuid4().hex

    patch.object(Payment, "authorize_key", property(fresh_key)).start()


def without_fence() -> None:
    """A release of what is not there yet leaves nothing that a late reservation would meet."""

    async def released(service: Any, order_id: str) -> Stored[Reservation]:
        reservations: ReservationStore = service._reservations
        existing = await reservations.get(order_id)
        return existing or Stored(
            Reservation(id=order_id, state=ReservationState.RELEASED), revision=1
        )

    patch.object(InventoryService, "_fence", released).start()


def without_resume() -> None:
    """Nobody takes up what a crash or an outage left behind."""

    async def nothing(_: Saga) -> None:
        return

    patch.object(Saga, "sweep", nothing).start()


def without_guard() -> None:
    """Stock is taken without a look at what there is."""

    class AnyStock(Stock):
        available: int

    guarded = Documents[Stock].increment

    async def increment(
        documents: Documents[Stock], document_id: str, by: Mapping[str, int], **guards: Any
    ) -> Stored[Stock] | None:
        guards.pop("at_least", None)
        return await guarded(documents, document_id, by, **guards)

    patch("services.inventory.main.Stock", AnyStock).start()
    patch.object(Documents, "increment", increment).start()


MUTATIONS: Mapping[str, Callable[[], None]] = {
    "idempotency-key": without_idempotency_key,
    "fence": without_fence,
    "resume": without_resume,
    "guard": without_guard,
}

if __name__ == "__main__":
    MUTATIONS[sys.argv.pop(1)]()
    sys.exit(main())
