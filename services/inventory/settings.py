"""Settings of the inventory service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import Settings


class InventorySettings(Settings):
    """Inventory's own settings."""

    stock_file: Path = Field(
        default=Path(__file__).parent / "stock.yaml",
        description="YAML: product id to the stock that a product without any starts with.",
    )
