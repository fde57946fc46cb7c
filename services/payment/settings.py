"""What the payment service can be told."""

from __future__ import annotations

from pydantic import Field, SecretStr

from services.common.settings import Settings


class PaymentSettings(Settings):
    """Where Stripe is, and how patient we are with it."""

    stripe_api_key: SecretStr = Field(min_length=8)
    stripe_api_base: str = Field(default="https://api.stripe.com", pattern=r"^https?://[^/]+$")
    stripe_timeout_seconds: float = Field(default=5.0, gt=0, le=80)
    stripe_max_retries: int = Field(
        default=0,
        ge=0,
        le=5,
        description="Retries by Stripe's SDK. None: whoever called decides, within its budget.",
    )
    payment_reconcile_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How often payments are compared with what Stripe holds and took.",
    )
