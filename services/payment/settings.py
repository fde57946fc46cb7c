"""Settings of the payment service."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator

from services.common.settings import Settings

# A secret or a restricted key of Stripe's test mode (https://docs.stripe.com/keys).
_TEST_KEY = re.compile(r"(?:sk|rk)_test_[A-Za-z0-9_]{4,}")


class PaymentSettings(Settings):
    """Where Stripe is, and how patient we are with it."""

    stripe_api_key: SecretStr
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

    @field_validator("stripe_api_key")
    @classmethod
    def _is_test_key(cls, key: SecretStr) -> SecretStr:
        """Refuses everything that could move real money, or nothing at all."""
        if not _TEST_KEY.fullmatch(key.get_secret_value()):
            raise ValueError(
                "It is not a secret key of Stripe's test mode, which begins with "
                "sk_test_ or rk_test_"
            )
        return key
