"""Error codes that several places raise, or that a caller compares with.

All other codes are written where their error is raised.
"""

from __future__ import annotations

ACCOUNT_GONE = "account-gone"
AUTHENTICATION_REQUIRED = "authentication-required"
BAD_ANSWER = "bad-answer"
CHECKOUT_UNAVAILABLE = "checkout-unavailable"
DEADLINE_PASSED = "deadline-passed"
EMAIL_TAKEN = "email-taken"
EXPIRED_CARD = "expired-card"
IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
INSUFFICIENT_FUNDS = "insufficient-funds"
INTERNAL = "internal"
INVALID_REQUEST = "invalid-request"
NOT_A_GUEST = "not-a-guest"
NO_SUCH_SHIPPING = "no-such-shipping"
OUT_OF_STOCK = "out-of-stock"
PASSWORD_REPLACED = "password-replaced"  # noqa: S105  no password
PROCESSING_ERROR = "processing-error"
SAME_PASSWORD = "same-password"  # noqa: S105
SESSION_ENDED = "session-ended"
SHIPMENT_UNDER_WAY = "shipment-under-way"
TOO_MANY_ATTEMPTS = "too-many-attempts"
TOTAL_CHANGED = "total-changed"
WEAK_PASSWORD = "weak-password"  # noqa: S105
WEIGHT_OUT_OF_RANGE = "weight-out-of-range"
