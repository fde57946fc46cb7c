"""What every outgoing call has in common: its time, its span, its metrics and its entry in the call
record.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from services.common import context, record
from services.common.errors import ShopError
from services.common.metrics import Metrics


@dataclass(frozen=True, slots=True)
class CallTools:
    """What the clients of one process share."""

    caller: str
    tracer: Tracer
    metrics: Metrics


@dataclass(slots=True)
class Outcome:
    """What a call's transport found out; filled in while the call runs."""

    status: str = "unavailable"
    served: record.Served | None = None


@asynccontextmanager
async def observed(
    tools: CallTools, *, callee: str, operation: str, protocol: str
) -> AsyncGenerator[Outcome]:
    """Runs one attempt of a call: in a client span, measured, and recorded whether it succeeds or
    not.
    """
    started = time.perf_counter()
    outcome = Outcome()
    request = context.current()
    with tools.tracer.start_as_current_span(
        f"{callee} {operation}",
        kind=SpanKind.CLIENT,
        attributes={"rpc.system": protocol, "peer.service": callee},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield outcome
        except ShopError as error:
            outcome.status = error.kind.value
            span.set_status(Status(StatusCode.ERROR, error.detail))
            raise
        finally:
            seconds = time.perf_counter() - started
            tools.metrics.call(callee, operation, outcome.status, seconds)
            served = outcome.served
            request.log.add(
                record.Call(
                    callee=callee,
                    operation=operation,
                    version=served.version if served else "",
                    instance=served.instance if served else "",
                    milliseconds=seconds * 1000,
                    status=outcome.status,
                    calls=served.calls if served else (),
                ),
                dropped=served.dropped if served else 0,
            )
