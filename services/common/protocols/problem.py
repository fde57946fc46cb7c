"""RFC 9457 problem details: the form of every HTTP error of the shop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus, client
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.common import context, error_codes
from services.common.errors import HTTP_STATUS, Kind, ShopError, kind_of_http_status
from services.common.observing.logs import get_logger, log_cause
from services.common.protocols.http_semantics import allowed_here

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:meshmart:problem:"


class FieldError(BaseModel):
    """One wrong field of a request."""

    field: str = Field(examples=["body.items.0.quantity"])
    message: str = Field(examples=["Input should be greater than 0"])


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable, for programs; `detail` is for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:meshmart:problem:out-of-stock",
                    "title": "Conflict",
                    "status": 409,
                    "detail": "Only 2 of Oak Serving Board are left.",
                    "code": "out-of-stock",
                    "request_id": "9f1c0d8e6b7a4c5d8e9f0a1b2c3d4e5f",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[FieldError] = []
    fields: dict[str, str] = {}


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    retry_after_seconds: float | None = None,
    errors: Sequence[FieldError] = (),
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one problem."""
    problem = Problem(
        type=_TYPE_PREFIX + code,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=context.current_request_id(),
        errors=list(errors),
        fields=dict(fields or {}),
    )
    all_headers = dict(headers or {})
    if retry_after_seconds is not None:
        all_headers["retry-after"] = str(math.ceil(retry_after_seconds))
    if status == HTTPStatus.UNAUTHORIZED:
        all_headers.setdefault("www-authenticate", "Bearer")
    body = orjson.dumps(problem.model_dump(exclude_defaults=True))
    return Response(body, status_code=status, headers=all_headers, media_type=MEDIA_TYPE)


def shop_error_response(error: ShopError) -> Response:
    """The response for a failure of the shop."""
    return problem_response(
        HTTP_STATUS[error.kind],
        error.code,
        error.detail,
        retry_after_seconds=error.retry_after_seconds,
        fields=error.fields,
    )


def http_exception_response(error: HTTPException) -> Response:
    """The response for an error that the framework raised."""
    status = error.status_code
    if status == HTTPStatus.BAD_REQUEST:  # a body that cannot be parsed; every route documents 422
        return problem_response(422, error_codes.INVALID_REQUEST, f"{error.detail}.")
    code = HTTPStatus(status).phrase.lower().replace(" ", "-")
    return problem_response(status, code, f"{error.detail}.", headers=error.headers)


def problem_to_error(status: int, body: bytes, callee: str, retry_after: str | None) -> ShopError:
    """Reads a callee's error answer back into the error that it raised; its `fields` say also what
    was wrong with which part of the request, such as ``{"body.name": "…"}``.
    """
    kind = kind_of_http_status(status)
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    try:
        problem = Problem.model_validate_json(body)
    except ValueError:
        phrase = client.responses.get(status, "with an error")
        return ShopError(
            kind,
            f"{callee}-{kind.value}",
            f"{callee} answered {status} {phrase}.",
            retry_after_seconds=seconds,
        )
    wrong = {one.field: one.message for one in problem.errors}
    return ShopError(
        kind,
        problem.code,
        problem.detail,
        retry_after_seconds=seconds,
        fields={**wrong, **problem.fields},
    )


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: which problems it answers, beside those that every route may."""
    always = (Kind.INVALID, Kind.TOO_LARGE, Kind.THROTTLED, Kind.TIMEOUT, Kind.UNAVAILABLE)
    return {
        HTTP_STATUS[kind]: {
            "description": HTTPStatus(HTTP_STATUS[kind]).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for kind in (*always, *kinds)
    }


def install_problem_handlers(app: Starlette) -> None:
    """Makes every error that the routes raise a problem."""

    async def on_shop_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ShopError)
        log_cause(log, error)
        return shop_error_response(error)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            FieldError(field=".".join(str(part) for part in item["loc"]), message=item["msg"])
            for item in error.errors()[:20]
        ]
        where = f"{errors[0].field}: {errors[0].message}." if errors else "It cannot be read."
        return problem_response(
            422,
            error_codes.INVALID_REQUEST,
            f"The request is not valid. {where}",
            errors=errors,
        )

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = http_exception_response(error)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["allow"] = allowed_here(request, app.routes)
        return response

    app.add_exception_handler(ShopError, on_shop_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_exception)
