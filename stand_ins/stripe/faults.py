"""How the sandbox misbehaves when it is told to: by seeded chance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


class SandboxFaults(BaseModel):
    """Chances are per request to ``/v1``; all zero means a Stripe that never fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_ms: Milliseconds = Field(default=0, description="How long each request takes.")
    delay_jitter_ms: Milliseconds = Field(default=0, description="Its variation, either way.")
    decline_rate: Rate = Field(
        default=0, description="A card is declined, whichever it is, as Stripe's 4000000000000002."
    )
    timeout_rate: Rate = Field(
        default=0, description="No answer until the caller gives up; nothing happens."
    )
    rate_limit_rate: Rate = Field(default=0, description="429 before anything happens.")
    failure_rate: Rate = Field(
        default=0,
        description="500 or 503 before the effect; nothing is stored, so the same key runs again.",
    )
    stored_failure_rate: Rate = Field(
        default=0,
        description="500 after the effect, stored under the key as Stripe does: a retry gets the "
        "500 again although the effect is there.",
    )
    lost_reply_rate: Rate = Field(
        default=0,
        description="The effect happens, then the connection breaks; the same key gets the answer.",
    )
    seed: int | None = Field(
        default=None, description="The same seed gives the same faults in order."
    )


@dataclass(frozen=True, slots=True)
class RequestFaults:
    """What is to go wrong with one request."""

    delay_seconds: float
    declined: bool
    timed_out: bool
    rate_limited: bool
    failure_status: int | None
    stored_failure: bool
    lost_reply: bool


class SandboxFaultInjector:
    """Draws the faults of one request after the other, in order of arrival."""

    def __init__(self, faults: SandboxFaults) -> None:
        self.load(faults)

    def load(self, faults: SandboxFaults) -> None:
        """Takes other faults from here on and begins their sequence again."""
        self.faults = faults
        self._chance = random.Random(faults.seed)  # noqa: S311  faults must repeat, not surprise

    def draw(self) -> RequestFaults:
        """Uses the same count of numbers each time: one rate does not shift another's luck."""
        faults, chance = self.faults, self._chance.random
        jitter, limited, failed, stored, lost = chance(), chance(), chance(), chance(), chance()
        declined, timed_out = chance(), chance()
        delay_ms = faults.delay_ms + (2 * jitter - 1) * faults.delay_jitter_ms
        failure_status = None
        if failed < faults.failure_rate:
            failure_status = 500 if failed < faults.failure_rate / 2 else 503
        return RequestFaults(
            delay_seconds=max(0.0, delay_ms / 1000),
            declined=declined < faults.decline_rate,
            timed_out=timed_out < faults.timeout_rate,
            rate_limited=limited < faults.rate_limit_rate,
            failure_status=failure_status,
            stored_failure=stored < faults.stored_failure_rate,
            lost_reply=lost < faults.lost_reply_rate,
        )
