"""How a call fails."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from services.common.errors import ShopError


async def failure(call: Awaitable[object]) -> ShopError:
    """The error that a call ends with; a call that succeeds fails the test."""
    with pytest.raises(ShopError) as failed:
        await call
    return failed.value
