"""The kinds of errors of the shop, and the one table that maps them to HTTP and gRPC.

Services raise :class:`ShopError`. Only the servers and clients in this package translate it, to an
RFC 9457 problem or a gRPC status and back, so a kind survives any number of calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import grpc


class Kind(StrEnum):
    """What went wrong, seen from the caller."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    DECLINED = "declined"
    DENIED = "denied"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    TOO_LARGE = "too-large"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


HTTP_STATUS: Mapping[Kind, int] = {
    Kind.INVALID: 422,
    Kind.UNAUTHENTICATED: 401,
    Kind.DECLINED: 402,
    Kind.DENIED: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.THROTTLED: 429,
    Kind.TIMEOUT: 504,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}

GRPC_STATUS: Mapping[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.DECLINED: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.CONFLICT: grpc.StatusCode.ABORTED,
    Kind.TOO_LARGE: grpc.StatusCode.OUT_OF_RANGE,
    Kind.THROTTLED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}

# Answers that the shop's own services never give, but proxies and frameworks on the way do.
_FOREIGN_HTTP_STATUS: Mapping[int, Kind] = {
    400: Kind.INVALID,
    405: Kind.INVALID,
    408: Kind.TIMEOUT,
    415: Kind.INVALID,
    431: Kind.TOO_LARGE,
    502: Kind.UNAVAILABLE,
}

_KIND_BY_HTTP_STATUS: Mapping[int, Kind] = {
    **_FOREIGN_HTTP_STATUS,
    **{status: kind for kind, status in HTTP_STATUS.items()},
}

_KIND_BY_GRPC_STATUS: Mapping[grpc.StatusCode, Kind] = {
    **{status: kind for kind, status in GRPC_STATUS.items()},
    grpc.StatusCode.CANCELLED: Kind.TIMEOUT,
    grpc.StatusCode.ALREADY_EXISTS: Kind.CONFLICT,
}

# The shop's servers add details to every failure. Without any, these are of a connection that broke
# or of a proxy: whether the call had its effect is not known, as in any outage.
_OUTAGE_WITHOUT_DETAILS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


def kind_of_http_status(status: int) -> Kind:
    """The kind of an HTTP error status (400 and up)."""
    fallback = Kind.INTERNAL if status >= 500 else Kind.INVALID
    return _KIND_BY_HTTP_STATUS.get(status, fallback)


def kind_of_grpc_status(status: grpc.StatusCode) -> Kind:
    """The kind of a gRPC status other than OK."""
    return _KIND_BY_GRPC_STATUS.get(status, Kind.INTERNAL)


def kind_of_bare_grpc_status(status: grpc.StatusCode) -> Kind:
    """The kind of a gRPC status other than OK that came without the shop's details."""
    return Kind.UNAVAILABLE if status in _OUTAGE_WITHOUT_DETAILS else kind_of_grpc_status(status)


class ShopError(Exception):
    """A failure that the caller is told about.

    :param kind: decides the HTTP status and the gRPC code.
    :param code: a stable slug for programs, such as ``out-of-stock``.
    :param detail: a sentence for a person.
    :param retry_after_seconds: when trying again makes sense (``Retry-After``).
    :param fields: facts that travel with the error, such as ``{"product_id": "…"}``.
    """

    def __init__(
        self,
        kind: Kind,
        code: str,
        detail: str,
        *,
        retry_after_seconds: float | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.fields: Mapping[str, str] = fields or {}


class InvalidCursor(ShopError):
    """A cursor is malformed, or it belongs to another search."""

    def __init__(self) -> None:
        super().__init__(Kind.INVALID, "invalid-cursor", "The cursor is not from this search.")


def may_succeed_later(error: ShopError) -> bool:
    """Whether a service that repeats a failed request of its own may get another answer.

    A denial is among them: between services it is a policy's, which somebody mends.
    """
    return error.kind in _MAY_SUCCEED_LATER


_MAY_SUCCEED_LATER = frozenset(
    {
        Kind.UNAVAILABLE,
        Kind.TIMEOUT,
        Kind.THROTTLED,
        Kind.INTERNAL,
        Kind.DENIED,
        Kind.UNAUTHENTICATED,
    }
)


class ConfigurationError(Exception):
    """The process cannot start as it was configured. The message is one sentence that says what to
    fix.
    """
