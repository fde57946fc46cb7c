"""Errors and call records in gRPC metadata, both ways.

Error details follow the richer error model (google.rpc.Status with ErrorInfo and RetryInfo in
``grpc-status-details-bin``), so that any gRPC client can read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from services.common.errors import (
    GRPC_STATUS,
    Kind,
    ShopError,
    kind_of_bare_grpc_status,
    kind_of_grpc_status,
)

STATUS_DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "meshmart"

Metadatum = tuple[str, str | bytes]


def error_metadata(error: ShopError) -> tuple[Metadatum, ...]:
    """The trailing metadata that lets the caller rebuild `error`."""
    info = any_pb2.Any()
    info.Pack(ErrorInfo(reason=error.code, domain=DOMAIN, metadata=dict(error.fields)))
    details = [info]
    if error.retry_after_seconds is not None:
        retry = any_pb2.Any()
        delay = duration_pb2.Duration(nanos=0)
        delay.FromMilliseconds(math.ceil(error.retry_after_seconds * 1000))
        retry.Pack(RetryInfo(retry_delay=delay))
        details.append(retry)
    code: int = GRPC_STATUS[error.kind].value[0]
    status = Status(code=code, message=error.detail, details=details)
    return ((STATUS_DETAILS_KEY, status.SerializeToString()),)


def error_from_status(
    code: grpc.StatusCode, message: str, trailing: Iterable[Metadatum], callee: str
) -> ShopError:
    """Rebuilds the error that a callee raised, or makes one of a bare status."""
    for key, value in trailing:
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            error = _error_in(value, kind_of_grpc_status(code))
            if error is not None:
                return error
    kind = kind_of_bare_grpc_status(code)
    if kind is Kind.UNAVAILABLE:  # gRPC's own words name addresses, and these reach customers
        return ShopError(
            kind, f"{callee}-{kind.value}", f"{callee} cannot be reached.", retry_after_seconds=1
        )
    return ShopError(kind, f"{callee}-{kind.value}", f"{callee}: {message or code.name}.")


def _error_in(details: bytes, kind: Kind) -> ShopError | None:
    """The error of ours that a google.rpc.Status holds. None when there is none: whoever answered
    may be anything.
    """
    info, retry = ErrorInfo(), RetryInfo()
    seconds: float | None = None
    found = False
    try:
        status = Status.FromString(details)
        for detail in status.details:
            if detail.Unpack(info):
                found = info.domain == DOMAIN
            elif detail.Unpack(retry):
                seconds = retry.retry_delay.ToMilliseconds() / 1000
    except DecodeError:
        return None
    if not found:
        return None
    return ShopError(
        kind,
        info.reason,
        status.message,
        retry_after_seconds=seconds,
        fields=dict(info.metadata),
    )
