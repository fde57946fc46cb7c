"""Settings of the order service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import Settings


class OrderSettings(Settings):
    """Time limits of the saga."""

    order_answer_seconds: float = Field(
        default=8.0,
        gt=0,
        le=60,
        description="How long POST /api/orders waits for the order to settle before 202.",
    )
    order_lease_seconds: float = Field(
        default=20.0,
        ge=5,
        le=600,
        description="How long an order stays with a process that does nothing for it.",
    )
    order_give_up_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="How long an outage may hold up an order that is not paid yet.",
    )
