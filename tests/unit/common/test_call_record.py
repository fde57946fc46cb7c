"""The call record survives the wire, stays small, and never trusts what it reads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.call_record import (
    MAX_BYTES,
    MAX_CALLS,
    MAX_TEXT,
    Call,
    CallLog,
    Served,
    decode,
    encode,
)

SHORT = st.text(max_size=12)
MILLISECONDS = st.integers(0, 600_000).map(lambda tenths: tenths / 10)


def calls_above(children: st.SearchStrategy[Call]) -> st.SearchStrategy[Call]:
    below = st.lists(children, max_size=2).map(tuple)
    return st.builds(Call, SHORT, SHORT, SHORT, SHORT, MILLISECONDS, SHORT, below, MILLISECONDS)


NONE: st.SearchStrategy[tuple[Call, ...]] = st.just(())
LEAF = st.builds(Call, SHORT, SHORT, SHORT, SHORT, MILLISECONDS, SHORT, NONE, MILLISECONDS)
CALLS = st.recursive(LEAF, calls_above, max_leaves=5)


def served(*calls: Call, dropped: int = 0) -> Served:
    return Served("order", "v1", "order-1", 12.5, calls, dropped)


def call(operation: str = "GET /things", *children: Call) -> Call:
    return Call("product", operation, "v1", "product-1", 1.5, "200", children)


def count(answer: Served) -> int:
    return sum(one.count() for one in answer.calls)


@given(
    st.builds(
        Served,
        SHORT,
        SHORT,
        SHORT,
        MILLISECONDS,
        st.lists(CALLS, max_size=3).map(tuple),
        st.integers(0, 999),
    )
)
def test_what_is_sent_arrives(answer: Served) -> None:
    text = encode(answer)
    assert text.isascii()
    assert text.isprintable()
    read = decode(text)
    assert read is not None
    if read.dropped == answer.dropped:
        assert read == answer
    else:
        assert read.calls == answer.calls[: len(read.calls)]
        assert read.dropped + count(read) == answer.dropped + count(answer)


@given(st.lists(CALLS, max_size=80))
def test_a_log_is_bounded_and_counts_what_it_leaves_out(calls: list[Call]) -> None:
    log = CallLog()
    for one in calls:
        log.add(one, dropped=2)
    kept = sum(one.count() for one in log.calls)
    assert kept <= MAX_CALLS
    assert kept + log.dropped == sum(one.count() for one in calls) + 2 * len(calls)


@given(st.lists(LEAF, min_size=30, max_size=60))
def test_a_header_is_bounded_and_counts_what_it_leaves_out(calls: list[Call]) -> None:
    answer = served(*calls, dropped=3)
    text = encode(answer)
    assert len(text) <= MAX_BYTES
    read = decode(text)
    assert read is not None
    assert read.dropped + count(read) == 3 + count(answer)


def test_the_bounds_are_reached_exactly() -> None:
    log = CallLog()
    for _ in range(MAX_CALLS + 1):
        log.add(call())
    assert (len(log.calls), log.dropped) == (MAX_CALLS, 1)
    short = served(*[Call("a", "b", "", "", 0, "", ())] * MAX_CALLS)
    assert decode(encode(short)) == short, "as many calls as a log keeps fit when they are short"


def test_an_operation_is_cut_not_refused() -> None:
    read = decode(encode(served(call("GET /" + "x" * 200))))
    assert read is not None
    assert len(read.calls[0].operation) == MAX_TEXT


GOOD: list[object] = ["order", "v1", "order-1", 12.5, [], 0]
GOOD_CALL: list[object] = ["product", "GET /things", "v1", "product-1", 1.5, "200", []]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        "null",
        "{}",
        "[]",
        json.dumps(GOOD[:5]),
        json.dumps([*GOOD, 1]),
        json.dumps([1, *GOOD[1:]]),
        json.dumps(["x" * (MAX_TEXT + 1), *GOOD[1:]]),
        json.dumps([*GOOD[:3], "12.5", [], 0]),
        json.dumps([*GOOD[:3], True, [], 0]),
        json.dumps([*GOOD[:4], {}, 0]),
        json.dumps([*GOOD[:4], [GOOD_CALL[:6]], 0]),
        json.dumps([*GOOD[:4], [[None, *GOOD_CALL[1:]]], 0]),
        '["order","v1","order-1",NaN,[],0]',
        '["order","v1","order-1",1.0,[],Infinity]',
        '["order","v1","order-1",1e999,[],0]',
        f'["order","v1","order-1",1.0,[],1{"0" * 400}]',
        "[" * 4000,
        json.dumps(GOOD) + " " * (2 * MAX_BYTES),
    ],
)
def test_what_is_no_record_is_ignored(text: str | None) -> None:
    assert decode(text) is None


def test_endless_nesting_is_ignored() -> None:
    nested: list[object] = []
    for _ in range(50):
        nested = [["a", "b", "", "", 0, "", nested]]
    assert decode(json.dumps([*GOOD[:4], nested, 0])) is None


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_whatever_json_arrives_is_no_error(wire: object) -> None:
    decode(json.dumps(wire))


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        ("200", False),
        ("ok", False),
        ("404", False),
        ("conflict", False),
        ("500", True),
        ("503", True),
        ("unavailable", True),
        ("timeout", True),
        ("internal", True),
        ("refused", True),
    ],
)
def test_refusals_are_no_failures(status: str, failed: bool) -> None:
    assert Call("a", "b", "", "", 0, status).failed is failed


def test_what_the_way_took_is_before_and_behind_what_the_server_measured() -> None:
    answer = Served("order", "v1", "order-1", 12.0, (replace(call(), start_milliseconds=2.0),))
    (placed,) = answer.calls_within(20.0)
    assert placed.start_milliseconds == 6.0
    (unmoved,) = answer.calls_within(11.0)  # clocks of two machines are never that exact
    assert unmoved.start_milliseconds == 2.0
