"""Stripe's errors: their types, codes and HTTP statuses.

Sources: docs.stripe.com/api/errors and docs.stripe.com/error-codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DASHBOARD_LOGS = "https://dashboard.stripe.com/test/logs/"
ERROR_DOCS = "https://stripe.com/docs/error-codes/"


class ApiError(Exception):
    """An answer other than 200.

    :param details: further members of the error object, such as ``decline_code``.
    :param should_retry: what ``Stripe-Should-Retry`` says; None leaves the header out.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
        should_retry: bool | None = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param
        self.details = details or {}
        self.should_retry = should_retry

    @property
    def outcome(self) -> str:
        """The word that the books count this under."""
        return self.code or self.kind

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body; members without a value are left out, as Stripe does."""
        error: dict[str, Any] = {}
        if self.code is not None:
            error |= {"code": self.code, "doc_url": doc_url(self.code)}
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        error |= self.details
        error |= {"request_log_url": DASHBOARD_LOGS + request_id, "type": self.kind}
        return {"error": error}


def doc_url(code: str) -> str:
    return ERROR_DOCS + code.replace("_", "-")


def invalid(
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    status: int = 400,
    details: Mapping[str, Any] | None = None,
) -> ApiError:
    return ApiError(
        status, "invalid_request_error", message, code=code, param=param, details=details
    )


def missing(kind: str, identifier: str, param: str, *, status: int = 404) -> ApiError:
    """The object that a path (404) or a parameter (400) names does not exist."""
    return invalid(
        f"No such {kind}: '{identifier}'", code="resource_missing", param=param, status=status
    )


def unexpected_state(message: str, intent: Mapping[str, Any]) -> ApiError:
    return invalid(
        message, code="payment_intent_unexpected_state", details={"payment_intent": intent}
    )


def unauthorized(message: str) -> ApiError:
    return invalid(message, status=401)


def key_in_use(key: str) -> ApiError:
    return ApiError(
        409,
        "invalid_request_error",
        f"There is currently another in-progress request using this Idempotent Key: {key}. "
        "Please try again later.",
        code="idempotency_key_in_use",
        should_retry=True,
    )


def key_of_other_request(message: str) -> ApiError:
    return ApiError(400, "idempotency_error", message)


def rate_limited() -> ApiError:
    """Without advice to retry: Stripe leaves it to the caller to slow down."""
    return ApiError(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. You can learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        should_retry=None,
    )


def failure(status: int, *, should_retry: bool) -> ApiError:
    return ApiError(
        status,
        "api_error",
        "An unknown error occurred. (Injected by the sandbox, or its own fault.)",
        should_retry=should_retry,
    )
