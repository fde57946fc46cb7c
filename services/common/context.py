"""The context of a request, which travels through every service: its id, its deadline, its routing
headers and the user's token.

Servers set it, and clients send it on. Code in between reads :func:`current` only when it must.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType

from services.common import error_codes
from services.common.call_record import CallLog
from services.common.errors import Kind, ShopError

REQUEST_ID_HEADER = "x-request-id"
DEADLINE_HEADER = "x-deadline-ms"
ROUTING_HEADERS = ("canary", "x-user-group", "user-id")

# All that a request's context is read from, by the names as they are in an ASGI scope.
CONTEXT_HEADERS = {
    name.encode(): name
    for name in (*ROUTING_HEADERS, REQUEST_ID_HEADER, DEADLINE_HEADER, "authorization")
}

_MAX_HEADER_LENGTH = 128
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1


@dataclass(slots=True)
class RequestContext:
    """One request's luggage.

    :param deadline: in seconds of :func:`time.monotonic`; it only ever shrinks along the chain.
    :param token: the caller's bearer token, sent on to the callees that act for the user.
    :param client_address: the IP address of the client outside (see :mod:`.client_address`); empty
        when it is not known. Sent on only to the callee that needs it.
    :param is_retry: set by background work that repeats what has failed before, so that its calls
        are paid from the retry budgets. Not sent on: the callee's own calls are first attempts.
    """

    deadline: float
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    routing: Mapping[str, str] = field(default_factory=dict[str, str])
    token: str | None = None
    client_address: str = ""
    is_retry: bool = False
    log: CallLog = field(default_factory=CallLog)

    @property
    def seconds_left(self) -> float:
        """The time left until the deadline; negative when it has passed."""
        return self.deadline - time.monotonic()

    def allowance(self, wanted_seconds: float) -> float:
        """How long the next call may take.

        :raises ShopError: TIMEOUT, when nothing is left.
        """
        left = self.seconds_left
        if left <= 0:
            raise ShopError(
                Kind.TIMEOUT,
                error_codes.DEADLINE_PASSED,
                "The deadline of this request has passed.",
            )
        return min(wanted_seconds, left)

    def headers(self, allowance_seconds: float) -> dict[str, str]:
        """The headers (or gRPC metadata) that carry this context to a callee, but for the user's
        token.
        """
        return {
            **self.routing,
            REQUEST_ID_HEADER: self.request_id,
            DEADLINE_HEADER: str(max(1, int(allowance_seconds * 1000))),
        }


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext:
    """The context of the request that is being served, or of the background job that runs.

    :raises LookupError: outside of both, which is a mistake in the program.
    """
    context = _current.get()
    if context is None:
        raise LookupError(
            "no request is being served here; background work runs inside `background()`"
        )
    return context


def current_request_id() -> str | None:
    """The current request's id, or None outside of any request."""
    context = _current.get()
    return context.request_id if context else None


class serving:  # noqa: N801  a context manager, named as such are
    """Makes `context` the current one. A class, since every request enters one."""

    __slots__ = ("_context", "_reset")

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self._reset: Token[RequestContext | None] | None = None

    def __enter__(self) -> RequestContext:
        self._reset = _current.set(self._context)
        return self._context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._reset is not None, "entered before"
        _current.reset(self._reset)


@contextmanager
def background(seconds: float) -> Generator[RequestContext]:
    """A context for work that no request waits for, with its own deadline."""
    with serving(RequestContext(deadline=time.monotonic() + seconds)) as context:
        yield context


def from_headers(headers: Mapping[str, str], limit_seconds: float) -> RequestContext:
    """The context that a caller sent. Values of the wrong form are ignored, never an error.

    :param headers: names in lower case.
    :param limit_seconds: the longest that this service lets a request take, whatever the caller
        asks for.
    """
    routing = {
        name: value
        for name in ROUTING_HEADERS
        if (value := headers.get(name)) is not None and _is_clean(value)
    }
    request_id = headers.get(REQUEST_ID_HEADER, "")
    authorization = headers.get("authorization", "")
    scheme, _, credentials = authorization.partition(" ")
    token = credentials.strip()
    return RequestContext(
        deadline=time.monotonic()
        + min(limit_seconds, _seconds(headers.get(DEADLINE_HEADER), limit_seconds)),
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex,
        routing=routing,
        token=token if scheme.lower() == "bearer" and _BEARER_TOKEN.fullmatch(token) else None,
    )


def _is_clean(value: str) -> bool:
    return 0 < len(value) <= _MAX_HEADER_LENGTH and value.isascii() and value.isprintable()


def _seconds(milliseconds: str | None, default: float) -> float:
    if (
        milliseconds is None
        or not milliseconds.isascii()
        or not milliseconds.isdigit()
        or len(milliseconds) > 9
    ):
        return default
    return int(milliseconds) / 1000
