"""Label values are few and plain, whatever is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.common.observing.label_values import OTHER, LabelValues

AT_MOST = 3


@given(st.lists(st.text(max_size=70), max_size=20))
def test_whatever_is_sent_they_are_few(values: list[str]) -> None:
    labels = LabelValues(AT_MOST)
    assert len({labels.bounded(value) for value in values} - {"", OTHER}) <= AT_MOST


def test_the_first_ones_are_kept_as_they_are() -> None:
    labels = LabelValues(AT_MOST)
    sent = ["card-declined", "v2.1", "", "order_1", "fourth", "card-declined"]
    assert [labels.bounded(value) for value in sent] == [*sent[:4], OTHER, "card-declined"]


def test_odd_ones_take_no_place() -> None:
    labels = LabelValues(1)
    for odd in ("two words", 'a"b', "new\nline", "é", "x" * 65):
        assert labels.bounded(odd) == OTHER
    assert labels.bounded("plain") == "plain"
