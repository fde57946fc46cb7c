"""The hunt for secrets finds what it is there for: one of each kind, wherever it is planted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from services.common.observing.metrics import Metrics
from tests.testkit.customer import PASSWORD
from tests.testkit.hunt import (
    KINDS,
    Hunter,
    SecretTold,
    check,
    findings,
    findings_in_files,
)

PLANTED = {
    "an e-mail address": "ada@example.com",
    "an e-mail address in a URL": "/products?q=ada%40example.com",
    "a JSON Web Token": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c3JfMSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ",
    "a refresh token": f"ses_{'abcdefghijklmnopqrstuvwx'}.{'k' * 43}",
    "a device token": f"dev_{'0' * 32}.1790000000000.{'f' * 64}",
    "a key of Stripe": "sk_test_meshmart",
    "a restricted key of Stripe": "rk_live_meshmart",
    "a client secret of Stripe": "pi_1_secret_0123456789abcdef",
    "a payment method": "pm_card_visa",
    "a card number": "4242 4242 4242 4242",
    "the number of a declining card": "4000000000000002",
    "a password": PASSWORD,
    "a password's hash": "$argon2id$v=19$m=1024",
    "a private key": "-----BEGIN EC PRIVATE KEY-----",
    "a random secret": "Vb3kq0nJ6tYxF5mZr8sLwQ2eHcDuA9iGoPfT1jBvKMs",
}
HARMLESS = """
{"event": "http.served", "path": "/api/orders/ord_abcdefghijklmnopqrstuvwx", "ms": 1.5,
"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
"session": "ses_abcdefghijklmnopqrstuvwx", "user_id": "usr_abcdefghijklmnop",
"kid":"_L6zbDjvbq19HbXcipDlqEyUb13ZC-eNq3VkQ1Tfhzs",
"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
"""


def test_each_kind_is_planted() -> None:
    assert set(PLANTED) == set(KINDS)


@pytest.mark.parametrize("kind", PLANTED)
def test_finds_each_kind_and_says_where(kind: str) -> None:
    emitted = HARMLESS + PLANTED[kind] + HARMLESS
    found = list(findings(emitted.encode(), "order.log"))
    assert found
    assert any(one.startswith(f"{kind} in order.log: …") for one in found)


def test_finds_nothing_where_there_is_nothing() -> None:
    check(HARMLESS.encode(), "order.log")


def test_finds_secrets_that_look_like_nothing(tmp_path: Path) -> None:
    log = tmp_path / "notification.log"
    log.write_text("535 wrong password: hunter2", encoding="utf-8")
    assert list(findings_in_files([log], {"SMTP_PASSWORD": "hunter2", "SMTP_HOST": "mail"}))
    assert not list(findings_in_files([log], {"SMTP_PASSWORD": "hunter3"}))


class TestInThisProcess:
    def test_a_log_line_is_searched(self, hunter: Hunter) -> None:
        structlog.stdlib.get_logger("tests").warning("mail.failed", to="ada@example.com")
        (told,) = hunter.take()
        assert told.startswith("an e-mail address in the log: …")

    def test_a_line_of_a_library_is_searched(self, hunter: Hunter) -> None:
        logging.getLogger("library").error("no such account: %s", "ada@example.com")
        (told,) = hunter.take()
        assert told.startswith("an e-mail address in the log of library: …")

    def test_a_span_is_searched(self, hunter: Hunter) -> None:
        tracer = TracerProvider().get_tracer("tests")
        with tracer.start_as_current_span("search", attributes={"url": "/?q=ada%40example.com"}):
            pass
        with tracer.start_as_current_span("pay") as span:
            span.set_status(Status(StatusCode.ERROR, "pm_card_visa was declined"))
        with tracer.start_as_current_span("log in") as span:
            span.add_event("refused", {"password": PASSWORD})
        first, second, third = hunter.take()
        assert first.startswith("an e-mail address in a URL in the span search: …")
        assert second.startswith("a payment method in the span pay: …")
        assert third.startswith("a password in the span log in: …")

    def test_a_metric_is_searched(self, hunter: Hunter) -> None:
        metrics = Metrics()
        metrics.counter("log_ins", "Log-ins.", ("email",)).labels("ada@example.com").inc()
        for emit in (metrics.exposition, metrics.openmetrics):
            emit()
            (told,) = hunter.take()
            assert told.startswith("an e-mail address in the metrics: …")


def test_a_record_of_calls_is_searched() -> None:
    with pytest.raises(SecretTold, match=r"an e-mail address in x-served-by: …"):
        check(b"1;user;v1;user-1;3.0,GetProfile ada@example.com", "x-served-by")
