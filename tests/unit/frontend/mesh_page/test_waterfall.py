"""How a page was made: bars where and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.call_record import Call, CallLog
from services.frontend.mesh_page.waterfall import Waterfall, waterfall, waterfall_from_cookie
from services.frontend.sealing import Seal
from tests.testkit.visitor import Visitor
from tests.unit.frontend.fakes import SECRET

TENTHS = st.integers(0, 5000).map(lambda tenths: tenths / 10)


def call(callee: str, start: float, milliseconds: float, *calls: Call) -> Call:
    return Call(callee, "GET /x", "v1", f"{callee}-1", milliseconds, "200", calls, start)


def made(*calls: Call, page_milliseconds: float = 0.0) -> Waterfall:
    return waterfall(
        CallLog(list(calls)), trace_id="t", request_id="r", page_milliseconds=page_milliseconds
    )


@st.composite
def nested(draw: st.DrawFn, depth: int = 3) -> Call:
    """A call whose own calls are within it, as calls that somebody waits for are."""
    milliseconds = draw(TENTHS)
    below = draw(st.lists(nested(depth - 1), max_size=2)) if depth else []
    within = [one for one in below if one.start_milliseconds + one.milliseconds <= milliseconds]
    return call("order", draw(TENTHS), milliseconds, *within)


def test_bars_stand_where_and_when() -> None:
    shown = made(
        call("inventory", 50.0, 30.0),
        call("order", 10.0, 40.0, call("payment", 20.0, 10.0), call("product", 4.0, 8.0)),
        page_milliseconds=100.0,
    )
    assert [
        (row.call.callee, row.depth, row.start_milliseconds, row.start_percent, row.width_percent)
        for row in shown.rows
    ] == [
        ("order", 0, 10.0, 10.0, 40.0),
        ("product", 1, 14.0, 14.0, 8.0),
        ("payment", 1, 30.0, 30.0, 10.0),
        ("inventory", 0, 50.0, 50.0, 30.0),
    ]


@given(st.lists(nested(), max_size=3), TENTHS)
def test_no_bar_is_outside_of_its_callers(calls: list[Call], page_milliseconds: float) -> None:
    shown = made(*calls, page_milliseconds=page_milliseconds)
    around = [(0.0, 100.0)]
    for row in shown.rows:
        del around[row.depth + 1 :]
        begin, end = around[-1]
        assert begin - 1e-9 <= row.start_percent
        assert row.start_percent + row.width_percent <= end + 1e-9
        around.append((row.start_percent, row.start_percent + row.width_percent))


@pytest.mark.parametrize("start", [-5.0, 1e6])
def test_a_wrong_record_stays_in_the_picture(start: float) -> None:
    (outer, inner) = made(call("order", 0.0, 10.0, call("payment", start, 5.0))).rows
    assert (outer.start_percent, outer.width_percent) == (0.0, 100.0)
    assert 0 <= inner.start_percent <= 100
    assert 0 <= inner.width_percent <= 100


def test_the_next_page_shows_the_same() -> None:
    seal = Seal(SECRET)
    shown = made(call("order", 1.0, 9.0, call("payment", 2.0, 3.0)), page_milliseconds=12.0)
    text = shown.to_cookie(seal)
    assert text is not None
    assert waterfall_from_cookie(seal, text) == shown


@pytest.mark.asyncio(loop_scope="session")
async def test_calls_that_follow_each_other_do_so_on_the_page(visitor: Visitor) -> None:
    await visitor.add_to_cart("oak-board")
    page = await visitor.get("/cart")
    bars = [
        (float(given["x"] or ""), float(given["width"] or ""))
        for tag, given in page.tags
        if tag == "rect" and (given.get("class") or "").startswith("bar")
    ]
    assert len(bars) >= 2
    assert bars == sorted(bars)
    assert all(0 <= x <= 100 and x + width <= 100.7 for x, width in bars)
