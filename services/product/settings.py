"""Settings of the product service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import Settings


class ProductSettings(Settings):
    """Product's own settings."""

    stock_max_age_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="How old the stock on a page may be. 0 asks inventory for each page. Orders do "
        "not depend on it: inventory decides what they get when they are placed.",
    )
