"""Settings of the shipping service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import Settings


class ShippingSettings(Settings):
    """The pace of the simulated carrier."""

    shipping_step_seconds: float = Field(
        default=20.0,
        gt=0,
        le=86_400,
        description="How long a parcel stays at each stage of its way.",
    )
