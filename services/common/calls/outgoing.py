"""What every outgoing call has in common: whether it may be made, its time, its span, its metrics
and its entry in the call record.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from prometheus_client import Counter, Gauge

from services.common import call_record, context
from services.common.backoff import Backoff, any_jitter
from services.common.calls.circuit_breaker import AttemptVerdict, CircuitBreaker, CircuitOpen
from services.common.calls.retry_budget import RetryBudget
from services.common.errors import Kind, ShopError
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.common.observing.telemetry import kept_trace_id, within

log = get_logger(__name__)

Answer = TypeVar("Answer")

# On average; half as long to half as long again, by chance.
_RETRY_PAUSES = Backoff(first_seconds=0.05, longest_seconds=1.0)


class CallRefused(ShopError):
    """A call that was not made, to spare a callee that is out.

    :param code: ``…-unavailable`` while the circuit is open, or ``retry-budget-spent``.
    :param retry_after_seconds: when it may be let through.
    """

    def __init__(self, callee: str, code: str, retry_after_seconds: float) -> None:
        super().__init__(
            Kind.UNAVAILABLE,
            code,
            f"{callee} cannot be reached just now.",
            retry_after_seconds=retry_after_seconds,
        )


class CalleeGuard:
    """Decides which attempts at one callee are made: the circuit and the retry budget that all
    edges of a process to it share.
    """

    def __init__(
        self,
        callee: str,
        circuit_open: Gauge,
        budget_left: Gauge,
        refusals: Counter,
        clock: Callable[[], float],
    ) -> None:
        self.callee = callee
        self.circuit = CircuitBreaker(self._circuit_changed, clock)
        self._retries = RetryBudget(clock)
        self._gauge = circuit_open.labels(callee)
        # Asked for when metrics are read, so that it is right also while nothing is called.
        budget_left.labels(callee).set_function(lambda: self._retries.share_left)
        self._refused_by_circuit = refusals.labels(callee, "circuit-open")
        self._refused_by_budget = refusals.labels(callee, "retry-budget-spent")

    def admit(self, *, is_retry: bool) -> int:
        """Admits an attempt; its end must be told to :meth:`settle`, with the number returned.

        :raises CallRefused: it must not be made.
        """
        try:
            admission = self.circuit.admit()
        except CircuitOpen as refusal:
            self._refused_by_circuit.inc()
            raise CallRefused(
                self.callee, f"{self.callee}-unavailable", refusal.seconds_until_probe
            ) from None
        if not is_retry:
            self._retries.deposit()
        elif not self._retries.withdraw():
            self.circuit.settle(admission, AttemptVerdict.NOTHING)
            self._refused_by_budget.inc()
            raise CallRefused(self.callee, "retry-budget-spent", 1.0)
        return admission

    def settle(self, admission: int, verdict: AttemptVerdict, *, is_retry: bool) -> None:
        """Learns how an admitted attempt ended."""
        if is_retry and verdict is AttemptVerdict.WORKS:
            self._retries.give_back()
        self.circuit.settle(admission, verdict)

    def _circuit_changed(self, is_open: bool) -> None:
        self._gauge.set(is_open)
        if is_open:
            log.warning("circuit.opened", callee=self.callee)
        else:
            self._retries.fill()
            log.info("circuit.closed", callee=self.callee)


class CallTools:
    """What the clients of one process share.

    :param clock: seconds that only ever go forward, for circuits and retry budgets.
    """

    def __init__(
        self,
        *,
        caller: str,
        tracer: Tracer,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caller = caller
        self.tracer = tracer
        self.metrics = metrics
        self._clock = clock
        self._guards: dict[str, CalleeGuard] = {}
        self._circuit_open = metrics.gauge(
            "circuit_open", "Whether calls to a callee are refused (1) or made (0).", ("callee",)
        )
        self._budget_left = metrics.gauge(
            "call_retry_budget_ratio",
            "The share of a callee's retry budget that is left: 1 when nothing is spent.",
            ("callee",),
        )
        self._refusals = metrics.counter(
            "call_refusals", "Calls that were not made, by callee and reason.", ("callee", "reason")
        )

    @property
    def open_circuits(self) -> Sequence[str]:
        """The callees that are not called now, but for a probe."""
        return [callee for callee, guard in self._guards.items() if not guard.circuit.is_closed]

    def guard(self, callee: str) -> CalleeGuard:
        """The callee's guard, the same for all of the process."""
        guard = self._guards.get(callee)
        if guard is None:
            guard = CalleeGuard(
                callee, self._circuit_open, self._budget_left, self._refusals, self._clock
            )
            self._guards[callee] = guard
        return guard


@dataclass(slots=True)
class Outcome:
    """What a call's transport found out; filled in while the call runs.

    :param callee_works: an answer that is UNAVAILABLE for this one request, such as one that is
        under way elsewhere, is no outage.
    """

    status: str = "unavailable"
    served: call_record.Served | None = None
    callee_works: bool = False


@contextmanager
def observed(
    tools: CallTools,
    *,
    callee: str,
    operation: str,
    protocol: str,
    is_retry: bool = False,
    is_cut_short: bool = False,
) -> Generator[Outcome]:
    """Runs one attempt of a call, if the callee's guard admits it: in a client span, measured, and
    recorded whether it succeeds or not.

    :param is_retry: the client repeats a call of the same request. In a context that is a retry as
        a whole, every attempt is one.
    :param is_cut_short: the request's deadline leaves less than the edge's own patience, so that a
        time-out says nothing about the callee.
    :raises CallRefused: the attempt was not made.
    """
    request = context.current()
    guard = tools.guard(callee)
    is_retry = is_retry or request.is_retry
    started = time.perf_counter()
    start_milliseconds = (started - request.log.began) * 1000
    try:
        admission = guard.admit(is_retry=is_retry)
    except CallRefused:
        refused = call_record.Call(
            callee,
            operation,
            "",
            "",
            0.0,
            call_record.REFUSED,
            start_milliseconds=start_milliseconds,
        )
        tools.metrics.call(tools.caller, refused, is_retry=is_retry, trace_id=kept_trace_id())
        request.log.add(refused)
        raise
    outcome = Outcome()
    # Unless it ends with an answer or an outage: it may be cancelled.
    verdict = AttemptVerdict.NOTHING
    with within(
        tools.tracer.start_span(
            f"{callee} {operation}",
            kind=SpanKind.CLIENT,
            attributes={"rpc.system": protocol, "peer.service": callee},
        )
    ) as span:
        try:
            yield outcome
            verdict = AttemptVerdict.WORKS
        except ShopError as error:
            outcome.status = error.kind.value
            verdict = _verdict(error.kind, outcome, is_cut_short=is_cut_short)
            span.set_status(Status(StatusCode.ERROR, error.detail))
            raise
        finally:
            guard.settle(admission, verdict, is_retry=is_retry)
            milliseconds = (time.perf_counter() - started) * 1000
            served = outcome.served
            call = call_record.Call(
                callee=callee,
                operation=operation,
                version=served.version if served else "",
                instance=served.instance if served else "",
                milliseconds=milliseconds,
                status=outcome.status,
                calls=served.calls_within(milliseconds) if served else (),
                start_milliseconds=start_milliseconds,
            )
            tools.metrics.call(tools.caller, call, is_retry=is_retry, trace_id=kept_trace_id(span))
            request.log.add(call, dropped=served.dropped if served else 0)


async def with_retries(
    guard: CalleeGuard, client_retries: int, attempt: Callable[[bool], Awaitable[Answer]]
) -> Answer:
    """Makes a call, and repeats it up to `client_retries` times while it meets an outage and its
    guard and its deadline allow.

    :param attempt: makes it once; told whether that is a retry.
    """
    for number in itertools.count():
        try:
            return await attempt(number > 0)
        except CallRefused:
            raise
        except ShopError as error:
            if (
                number == client_retries
                or not _is_outage(error.kind)
                or not guard.circuit.is_closed
            ):
                raise
            pause_seconds = _RETRY_PAUSES.pause_seconds(number + 1) * (0.5 + any_jitter())
            if pause_seconds >= context.current().seconds_left:
                raise
        await asyncio.sleep(pause_seconds)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _verdict(kind: Kind, outcome: Outcome, *, is_cut_short: bool) -> AttemptVerdict:
    if outcome.callee_works or not _is_outage(kind):
        return AttemptVerdict.WORKS
    if kind is Kind.TIMEOUT and is_cut_short:
        return AttemptVerdict.NOTHING
    return AttemptVerdict.OUTAGE


def _is_outage(kind: Kind) -> bool:
    return kind is Kind.UNAVAILABLE or kind is Kind.TIMEOUT
