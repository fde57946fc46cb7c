"""What travels with a request, and what is made of a stranger's headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import context
from services.common.context import RequestContext, from_headers
from services.common.errors import Kind, ShopError

LIMIT = 15.0
NEAR = 0.5


def test_a_caller_without_headers_gets_all_defaults() -> None:
    request = from_headers({}, LIMIT)
    assert request.seconds_left == pytest.approx(LIMIT, abs=NEAR)
    assert len(request.request_id) == 32
    assert request.routing == {}
    assert request.token is None


def test_what_the_caller_sent_is_kept_and_sent_on() -> None:
    sent = {
        "x-request-id": "abc-123",
        "x-deadline-ms": "2000",
        "canary": "true",
        "x-user-group": "beta",
        "user-id": "usr_1",
        "cookie": "not sent on",
    }
    request = from_headers(sent, LIMIT)
    assert request.seconds_left == pytest.approx(2.0, abs=NEAR)
    assert request.headers(1.5) == {
        "x-request-id": "abc-123",
        "x-deadline-ms": "1500",
        "canary": "true",
        "x-user-group": "beta",
        "user-id": "usr_1",
    }


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer abc", "abc"),
        ("Bearer aZ0-._~+/==", "aZ0-._~+/=="),
        ("bearer abc", "abc"),
        ("BEARER   abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
        ("Bearer caf\xe9", None),
        ("Bearer \N{ARABIC-INDIC DIGIT ONE}", None),
        ("Bearer a\x00b", None),
        ("Bearer a\r\nb", None),
        ("Bearer a b", None),
        ("Bearer a,b", None),
        ("Bearer a=b", None),
        ("Bearer =", None),
    ],
)
def test_only_a_bearer_token_counts(authorization: str, token: str | None) -> None:
    assert from_headers({"authorization": authorization}, LIMIT).token == token


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        ("0", 0.0),
        ("1500", 1.5),
        ("999999999", LIMIT),
        ("9999999999", LIMIT),
        ("-1", LIMIT),
        ("1.5", LIMIT),
        ("", LIMIT),
        ("soon", LIMIT),
        ("\N{SUPERSCRIPT TWO}", LIMIT),
        ("\N{ARABIC-INDIC DIGIT ONE}", LIMIT),
    ],
)
def test_a_deadline_never_grows_and_garbage_is_ignored(milliseconds: str, seconds: float) -> None:
    request = from_headers({"x-deadline-ms": milliseconds}, LIMIT)
    assert request.seconds_left == pytest.approx(seconds, abs=NEAR)


@pytest.mark.parametrize("value", ["", "x" * 129, "a\r\nb", "a\tb", "\x00", "é"])
def test_values_that_could_break_a_header_are_dropped(value: str) -> None:
    request = from_headers({"x-request-id": value, "canary": value}, LIMIT)
    assert request.request_id != value
    assert request.routing == {}


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        ("9f1c0d8e6b7a4c5d8e9f0a1b2c3d4e5f", True),
        ("0af76519-16cd-43dd-8448-eb211c80319c", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("two words", False),
        ('","level":"error"', False),
        ("<b>", False),
    ],
)
def test_a_request_id_is_one_word(value: str, is_kept: bool) -> None:
    assert (from_headers({"x-request-id": value}, LIMIT).request_id == value) is is_kept


@given(
    st.dictionaries(
        st.sampled_from(
            ["x-request-id", "x-deadline-ms", "canary", "x-user-group", "user-id", "authorization"]
        ),
        st.text(max_size=200),
    )
)
def test_no_header_is_an_error_and_none_passes_unclean(headers: dict[str, str]) -> None:
    request = from_headers(headers, LIMIT)
    assert request.seconds_left <= LIMIT
    for value in (*request.headers(1.0).values(), request.token or "a"):
        assert value.isascii()
        assert value.isprintable()


def test_a_callee_is_not_told_of_a_retry() -> None:
    """Its own calls are first attempts, or each level of the chain would spend its budget."""
    request = from_headers({"x-request-id": "abc-123"}, LIMIT)
    assert not request.is_retry
    sent = request.headers(1.0)
    request.is_retry = True
    assert request.headers(1.0) == sent


def test_a_call_gets_what_is_left_and_no_more() -> None:
    request = from_headers({"x-deadline-ms": "2000"}, LIMIT)
    assert request.allowance(1.0) == 1.0
    assert request.allowance(5.0) == pytest.approx(2.0, abs=NEAR)


def test_no_call_is_made_without_time() -> None:
    with pytest.raises(ShopError) as refused:
        RequestContext(deadline=0.0).allowance(1.0)
    assert (refused.value.kind, refused.value.code) == (Kind.TIMEOUT, "deadline-passed")


def test_the_current_context_is_that_of_the_innermost() -> None:
    assert context.current_request_id() is None
    with pytest.raises(LookupError):
        context.current()
    with context.background(5.0) as outer:
        assert context.current() is outer
        assert context.current_request_id() == outer.request_id
        with context.serving(RequestContext(deadline=0.0)) as inner:
            assert context.current() is inner
        assert context.current() is outer
    assert context.current_request_id() is None
