"""The shops that are measured: as `make run` starts them, but with enough stock, tokens that live
long, and one way of tracing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.testkit.shop import Shop

TOPOLOGY = "at the topology's ratios"
# Environment variables of each way of tracing.
TRACING: Mapping[str, Mapping[str, str]] = {
    "off": {"OTEL_SDK_DISABLED": "true"},
    TOPOLOGY: {},
    "100 %": {"TRACE_SAMPLING_RATIO": "1"},
}
IN_STOCK = 1_000_000
_ENVIRONMENT: Mapping[str, str] = {
    "ACCESS_TOKEN_SECONDS": "86400",
    # On a busy machine an order is to be slow in the figures, and not to be answered with 202.
    "ORDER_ANSWER_SECONDS": "60",
}


def measured_shop(
    folder: Path,
    *arguments: str,
    tracing: str = TOPOLOGY,
    program: Sequence[str] = ("-m", "services"),
    stock: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Shop:
    """Returns a shop that is not started yet.

    :param arguments: of the command line.
    :param program: the arguments of Python: the shop, or a variant of it.
    :param stock: of further products, which only the variant has.
    :param environment: further environment variables.
    """
    products = read_stock_file(InventorySettings().stock_file)
    return Shop(
        folder,
        *arguments,
        environment={**_ENVIRONMENT, **TRACING[tracing], **(environment or {})},
        stock={**dict.fromkeys(products, IN_STOCK), **(stock or {})},
        program=program,
    )
