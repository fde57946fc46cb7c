"""Instances take turns, by weight where there is one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.calls.round_robin import RoundRobin, spread

WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def test_they_take_turns_and_each_is_tried_once() -> None:
    instances = RoundRobin(["a", "b", "a", "c"])
    assert [instances.in_turn() for _ in range(5)] == [
        ("a", "b", "c"),
        ("b", "a", "c"),
        ("a", "c", "b"),
        ("c", "a", "b"),
        ("a", "b", "c"),
    ]


@given(WEIGHTS)
def test_each_has_as_many_turns_as_its_weight_says(weights: list[int]) -> None:
    turns = Counter(spread(weights))
    assert [turns[position] for position in range(len(weights))] == weights


@given(WEIGHTS)
def test_nobody_waits_much_longer_than_their_share_says(weights: list[int]) -> None:
    order = spread(weights)
    for done in range(len(order)):
        for position, weight in enumerate(weights):
            due = done * weight / sum(weights)
            assert order[:done].count(position) == pytest.approx(due, abs=len(weights) - 1)
