"""One table maps failures to both protocols; a failure survives either of them and back."""

from __future__ import annotations

from http import HTTPStatus

import grpc
import orjson
import pytest
from google.protobuf import any_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from services.common.errors import (
    GRPC_STATUS,
    HTTP_STATUS,
    Kind,
    ShopError,
    kind_of_grpc_status,
    kind_of_http_status,
)
from services.common.protocols.grpc_errors import (
    STATUS_DETAILS_KEY,
    error_from_status,
    error_metadata,
)
from services.common.protocols.problem import (
    MEDIA_TYPE,
    FieldError,
    Problem,
    documented,
    problem_response,
    problem_to_error,
    shop_error_response,
)

EXPECTED = [
    (Kind.INVALID, 422, grpc.StatusCode.INVALID_ARGUMENT),
    (Kind.UNAUTHENTICATED, 401, grpc.StatusCode.UNAUTHENTICATED),
    (Kind.DECLINED, 402, grpc.StatusCode.FAILED_PRECONDITION),
    (Kind.DENIED, 403, grpc.StatusCode.PERMISSION_DENIED),
    (Kind.NOT_FOUND, 404, grpc.StatusCode.NOT_FOUND),
    (Kind.CONFLICT, 409, grpc.StatusCode.ABORTED),
    (Kind.TOO_LARGE, 413, grpc.StatusCode.OUT_OF_RANGE),
    (Kind.THROTTLED, 429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Kind.TIMEOUT, 504, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Kind.UNAVAILABLE, 503, grpc.StatusCode.UNAVAILABLE),
    (Kind.INTERNAL, 500, grpc.StatusCode.INTERNAL),
]


def failure(kind: Kind) -> ShopError:
    return ShopError(
        kind,
        "out-of-stock",
        "Only 2 of „Crème brûlée“ are left.",
        retry_after_seconds=3,
        fields={"product_id": "oak-board", "left": "2"},
    )


def facts(error: ShopError) -> tuple[object, ...]:
    return error.kind, error.code, error.detail, error.retry_after_seconds, dict(error.fields)


def test_the_table_is_complete() -> None:
    assert {kind for kind, _, _ in EXPECTED} == set(Kind)


@pytest.mark.parametrize(("kind", "http", "code"), EXPECTED)
def test_each_kind_has_its_status(kind: Kind, http: int, code: grpc.StatusCode) -> None:
    assert HTTP_STATUS[kind] == http
    assert GRPC_STATUS[kind] is code
    assert kind_of_http_status(http) is kind
    assert kind_of_grpc_status(code) is kind


@pytest.mark.parametrize("kind", Kind)
def test_an_error_survives_http(kind: Kind) -> None:
    response = shop_error_response(failure(kind))
    assert response.headers["content-type"] == MEDIA_TYPE
    assert ("www-authenticate" in response.headers) == (kind is Kind.UNAUTHENTICATED)
    read = problem_to_error(
        response.status_code, bytes(response.body), "stock", response.headers["retry-after"]
    )
    assert facts(read) == facts(failure(kind))


@pytest.mark.parametrize("kind", Kind)
def test_an_error_survives_grpc(kind: Kind) -> None:
    error = failure(kind)
    read = error_from_status(GRPC_STATUS[kind], error.detail, error_metadata(error), "stock")
    assert facts(read) == facts(error)


def test_what_is_wrong_with_a_request_survives_http() -> None:
    wrong = [
        FieldError(field="body.name", message="Too odd"),
        FieldError(field="body.city", message="No such"),
    ]
    response = problem_response(
        422, "invalid-request", "It is not valid.", errors=wrong, fields={"product_id": "x"}
    )
    read = problem_to_error(422, bytes(response.body), "user", None)
    assert read.fields == {"body.name": "Too odd", "body.city": "No such", "product_id": "x"}


def test_an_error_without_extras_survives_both() -> None:
    plain = ShopError(Kind.CONFLICT, "late", "It is too late.")
    response = shop_error_response(plain)
    assert "retry-after" not in response.headers
    assert facts(problem_to_error(409, bytes(response.body), "stock", None)) == facts(plain)
    read = error_from_status(grpc.StatusCode.ABORTED, "", error_metadata(plain), "stock")
    assert facts(read) == facts(plain)


def test_a_problem_has_the_fields_of_its_rfc() -> None:
    body = orjson.loads(bytes(shop_error_response(failure(Kind.CONFLICT)).body))
    assert body == {
        "type": "urn:meshmart:problem:out-of-stock",
        "title": "Conflict",
        "status": 409,
        "detail": "Only 2 of „Crème brûlée“ are left.",
        "code": "out-of-stock",
        "fields": {"product_id": "oak-board", "left": "2"},
    }


def test_waiting_time_is_rounded_up() -> None:
    error = ShopError(Kind.THROTTLED, "slow-down", "Slow down.", retry_after_seconds=0.2)
    assert shop_error_response(error).headers["retry-after"] == "1"
    read = error_from_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "", error_metadata(error), "stock")
    assert read.retry_after_seconds == 0.2, "gRPC carries milliseconds"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Kind.INVALID),
        (405, Kind.INVALID),
        (408, Kind.TIMEOUT),
        (418, Kind.INVALID),
        (431, Kind.TOO_LARGE),
        (502, Kind.UNAVAILABLE),
        (599, Kind.INTERNAL),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail": "no problem details"}'])
def test_a_proxys_answer_becomes_a_kind(status: int, kind: Kind, body: bytes) -> None:
    error = problem_to_error(status, body, "stock", "soon")
    assert (error.kind, error.code) == (kind, f"stock-{kind.value}")
    assert error.detail.startswith(f"stock answered {status} ")
    assert error.detail.endswith(".")
    assert error.retry_after_seconds is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.CANCELLED, Kind.TIMEOUT),
        (grpc.StatusCode.ALREADY_EXISTS, Kind.CONFLICT),
        (grpc.StatusCode.UNIMPLEMENTED, Kind.INTERNAL),
        (grpc.StatusCode.DATA_LOSS, Kind.INTERNAL),
        (grpc.StatusCode.PERMISSION_DENIED, Kind.DENIED),
        (grpc.StatusCode.UNAUTHENTICATED, Kind.UNAUTHENTICATED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Kind.THROTTLED),
    ],
)
def test_a_bare_grpc_status_becomes_a_kind(code: grpc.StatusCode, kind: Kind) -> None:
    error = error_from_status(code, "gone", (), "stock")
    assert (error.kind, error.code, error.detail) == (kind, f"stock-{kind.value}", "stock: gone.")


OUTAGES = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]


@pytest.mark.parametrize("code", OUTAGES)
def test_a_connection_that_breaks_is_an_outage(code: grpc.StatusCode) -> None:
    error = error_from_status(code, "RST_STREAM of 10.0.0.7", (), "stock")
    assert facts(error) == (
        Kind.UNAVAILABLE,
        "stock-unavailable",
        "stock cannot be reached.",
        1,
        {},
    )


@pytest.mark.parametrize("code", OUTAGES)
def test_details_of_another_domain_are_not_ours(code: grpc.StatusCode) -> None:
    info = any_pb2.Any()
    info.Pack(ErrorInfo(reason="QUOTA", domain="example.com"))
    metadata = ((STATUS_DETAILS_KEY, Status(details=[info]).SerializeToString()),)
    error = error_from_status(code, "", metadata, "stock")
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "stock-unavailable")


@pytest.mark.parametrize("value", [b"\xff\xff\xff", b"nonsense", "text"])
def test_details_that_cannot_be_read_are_no_error(value: str | bytes) -> None:
    metadata = ((STATUS_DETAILS_KEY, value),)
    error = error_from_status(grpc.StatusCode.UNAVAILABLE, "gone", metadata, "stock")
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "stock-unavailable")


def test_documented_problems_refer_to_the_schema() -> None:
    responses = documented(Kind.NOT_FOUND)
    assert set(responses) == {404, 413, 422, 429, 503, 504}
    assert responses[404]["description"] == HTTPStatus.NOT_FOUND.phrase
    assert list(responses[404]["content"]) == [MEDIA_TYPE]
    assert Problem.__name__ in str(responses[404]["content"])
