"""The rules that need no store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Kind, ShopError
from services.inventory.model import (
    MAX_LINES,
    MAX_QUANTITY,
    Reservation,
    ReservationState,
    Tickets,
    merge_lines,
)


def test_lines_are_merged_and_sorted() -> None:
    merged = merge_lines([("bowl", 1), ("apron", 2), ("bowl", 3)])
    assert [(line.product_id, line.quantity) for line in merged] == [("apron", 2), ("bowl", 4)]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "invalid-lines"),
        ([("bowl", 1)] * (MAX_LINES + 1), "invalid-lines"),
        ([("bowl", 0)], "invalid-quantity"),
        ([("bowl", -1)], "invalid-quantity"),
        ([("bowl", 2), ("bowl", -1)], "invalid-quantity"),
        ([("bowl", MAX_QUANTITY + 1)], "invalid-quantity"),
        ([("bowl", MAX_QUANTITY), ("bowl", 1)], "invalid-quantity"),
    ],
)
def test_wrong_lines_are_invalid(lines: list[tuple[str, int]], code: str) -> None:
    with pytest.raises(ShopError) as raised:
        merge_lines(lines)
    assert (raised.value.kind, raised.value.code) == (Kind.INVALID, code)


@given(
    st.lists(
        st.tuples(st.sampled_from(["apron", "bowl", "cup"]), st.integers(1, 19)),
        min_size=1,
        max_size=MAX_LINES,
    )
)
def test_merging_keeps_every_piece_and_does_not_depend_on_the_order(
    lines: list[tuple[str, int]],
) -> None:
    merged = merge_lines(lines)
    assert merged == merge_lines(reversed(lines))
    assert sum(line.quantity for line in merged) == sum(quantity for _, quantity in lines)
    assert len({line.product_id for line in merged}) == len(merged)


@pytest.mark.parametrize(
    ("state", "kind", "stray"),
    [
        (ReservationState.PENDING, Tickets.HOLDS, False),  # it may yet be listed
        (ReservationState.HELD, Tickets.HOLDS, True),
        (ReservationState.RELEASED, Tickets.HOLDS, True),
        (ReservationState.SOLD, Tickets.RETURNS, False),  # a stale look at the reservation
        (ReservationState.RETURNING, Tickets.RETURNS, False),
        (ReservationState.RESTOCKING, Tickets.RETURNS, True),
        (ReservationState.RETURNED, Tickets.RETURNS, True),
    ],
)
def test_a_ticket_that_is_not_listed_is_a_stray_once_it_cannot_be(
    state: ReservationState, kind: Tickets, stray: bool
) -> None:
    listing = {"apron": "mine"}
    reservation = Reservation(id="order-1", state=state, holds=listing, returns=listing)
    assert reservation.is_stray(kind, "apron", "other") is stray
    assert not reservation.is_stray(kind, "apron", "mine")
