"""Injects faults for demonstrations: slow and failing answers, which dashboards, the mesh page and
canaries can show. Off unless settings turn them on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.common.errors import ConfigurationError, Kind, ShopError
from services.common.settings import ProcessSettings

_RETRY_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class InjectedFaults:
    """What goes wrong with the requests that a process serves.

    :ivar latency_seconds: how much longer each takes.
    :ivar error_share: how many fail, from 0 to 1.
    :ivar operations: those that are meant, by the names of the metrics; empty for all.
    :ivar chance: returns a number from 0 to 1, without 1.
    """

    latency_seconds: float
    error_share: float
    operations: frozenset[str]
    chance: Callable[[], float] = random.random

    @classmethod
    def of(cls, process: ProcessSettings) -> InjectedFaults | None:
        """Those of the settings; None when nothing is to go wrong."""
        if not (process.fault_latency_seconds or process.fault_error_share):
            return None
        return cls(
            process.fault_latency_seconds,
            process.fault_error_share,
            frozenset(process.fault_operations),
        )

    def check(self, service: str, known: Iterable[str]) -> None:
        """Returns when all operations that are meant are known.

        :raises ConfigurationError: one is not; the sentence lists those that are.
        """
        served = sorted(known)
        for operation in sorted(self.operations):
            if operation not in served:
                raise ConfigurationError(
                    f"The setting FAULT_OPERATIONS names {operation!r}, which {service} does not "
                    f"serve; it serves {', '.join(served)}."
                )

    async def strike(self, operation: str) -> None:
        """Waits as long as the request is to take longer.

        :raises ShopError: the request is one of those that are to fail.
        """
        if self.operations and operation not in self.operations:
            return
        await asyncio.sleep(self.latency_seconds)
        if self.chance() < self.error_share:
            raise ShopError(
                Kind.UNAVAILABLE,
                "demonstration-fault",
                "This is a fault for a demonstration, set by FAULT_ERROR_SHARE.",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
