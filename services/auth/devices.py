"""Tells browsers that an account was used in from strangers."""

from __future__ import annotations

from collections.abc import Callable

from services.auth.model import devices as model
from services.auth.model.devices import DeviceKey
from services.auth.store import DeviceKeyStore
from services.common.clock import now_ms


class Devices:
    """Issues and reads device tokens. Nothing is stored of them.

    :param clock: returns the Unix time in milliseconds.
    """

    def __init__(self, store: DeviceKeyStore, clock: Callable[[], int] = now_ms) -> None:
        self._store = store
        self._clock = clock
        self._key: DeviceKey | None = None

    async def token(self, session_id: str, email: str) -> str:
        """A token that lasts a year, for the browser that holds this session."""
        return model.device_token(await self._read_key(), session_id, email, self._clock())

    async def known(self, token: str, email: str) -> str | None:
        """The id of the device, if it is known for this account."""
        if not token:
            return None
        return model.known_device(await self._read_key(), token, email, self._clock())

    async def _read_key(self) -> DeviceKey:
        if self._key is None:
            self._key = await self._store.get_or_make()
        return self._key
