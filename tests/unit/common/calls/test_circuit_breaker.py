"""The circuit: what opens it, what closes it, and that one probe at a time goes through."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.calls.circuit_breaker import AttemptVerdict, CircuitBreaker, CircuitOpen
from tests.unit.common.kit import ManualClock

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 4.0
SHORTEST, LONGEST = 0.8, 1.2  # the factors between which a pause varies
OUTAGES = 5


@dataclass(slots=True)
class ObservedBreaker:
    """A circuit with its own time, and all that it told."""

    clock: ManualClock = field(default_factory=ManualClock)
    told: list[bool] = field(default_factory=list[bool])
    pauses_seconds: list[float] = field(default_factory=list[float])
    circuit: CircuitBreaker = field(init=False)

    def __post_init__(self) -> None:
        self.circuit = CircuitBreaker(self.told.append, self.clock)

    def attempt(self, verdict: AttemptVerdict) -> None:
        """One attempt from its beginning to its end."""
        self.circuit.settle(self.circuit.admit(), verdict)

    def fail(self, times: int = OUTAGES) -> None:
        """Outages in a row; by default as many as open the circuit."""
        for _ in range(times):
            self.attempt(AttemptVerdict.OUTAGE)

    def knock(self) -> int | None:
        """The admission of an attempt, None when it is refused."""
        try:
            return self.circuit.admit()
        except CircuitOpen as refused:
            self.pauses_seconds.append(refused.seconds_until_probe)
            return None

    def pause_seconds(self) -> float:
        """What a refused attempt is told."""
        with pytest.raises(CircuitOpen) as refused:
            self.circuit.admit()
        return refused.value.seconds_until_probe


@pytest.fixture
def breaker() -> ObservedBreaker:
    return ObservedBreaker()


def test_outages_in_a_row_open_it(breaker: ObservedBreaker) -> None:
    breaker.fail(OUTAGES - 1)
    assert breaker.circuit.is_closed
    assert breaker.told == []
    breaker.fail(1)
    assert not breaker.circuit.is_closed
    assert breaker.told == [True]
    assert FIRST_SECONDS * SHORTEST <= breaker.pause_seconds() <= FIRST_SECONDS * LONGEST


def test_any_answer_in_between_starts_the_count_again(breaker: ObservedBreaker) -> None:
    breaker.fail(OUTAGES - 1)
    breaker.attempt(AttemptVerdict.WORKS)
    breaker.fail(OUTAGES - 1)
    assert breaker.circuit.is_closed


def test_what_says_nothing_neither_counts_nor_resets(breaker: ObservedBreaker) -> None:
    breaker.fail(OUTAGES - 1)
    for _ in range(2 * OUTAGES):
        breaker.attempt(AttemptVerdict.NOTHING)
    assert breaker.circuit.is_closed
    breaker.fail(1)
    assert not breaker.circuit.is_closed


def test_it_stays_open_for_the_whole_pause(breaker: ObservedBreaker) -> None:
    breaker.fail()
    pause_seconds = breaker.pause_seconds()
    breaker.clock.advance(pause_seconds / 2)
    assert breaker.pause_seconds() == pytest.approx(pause_seconds / 2)
    breaker.clock.advance(pause_seconds / 2 + 1e-6)
    breaker.attempt(AttemptVerdict.WORKS)
    assert breaker.circuit.is_closed
    assert breaker.told == [True, False]


def test_one_probe_goes_through_and_the_others_wait_for_its_end(breaker: ObservedBreaker) -> None:
    breaker.fail()
    breaker.clock.advance(FIRST_SECONDS * LONGEST)
    probe = breaker.circuit.admit()
    for _ in range(3):
        assert breaker.pause_seconds() > 0
    breaker.clock.advance(60.0)
    breaker.pause_seconds()  # however long it takes
    breaker.circuit.settle(probe, AttemptVerdict.WORKS)
    assert len({breaker.circuit.admit() for _ in range(3)}) == 1, "all are admitted freely again"


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(breaker: ObservedBreaker) -> None:
    breaker.fail()
    for expected_seconds in (0.5, 1.0, 2.0, 4.0, 4.0, 4.0):
        pause_seconds = breaker.pause_seconds()
        assert expected_seconds * SHORTEST <= pause_seconds <= expected_seconds * LONGEST
        breaker.clock.advance(pause_seconds)
        breaker.attempt(AttemptVerdict.OUTAGE)
    assert breaker.told == [True], "it is one outage"


def test_the_next_outage_begins_with_a_short_pause(breaker: ObservedBreaker) -> None:
    breaker.fail()
    for verdict in (AttemptVerdict.OUTAGE, AttemptVerdict.OUTAGE, AttemptVerdict.WORKS):
        breaker.clock.advance(breaker.pause_seconds())
        breaker.attempt(verdict)
    breaker.fail(OUTAGES - 1)
    assert breaker.circuit.is_closed, "nor does the count go on where it was"
    breaker.fail(1)
    assert breaker.pause_seconds() <= FIRST_SECONDS * LONGEST


def test_a_probe_that_says_nothing_makes_room_at_once(breaker: ObservedBreaker) -> None:
    breaker.fail()
    breaker.clock.advance(FIRST_SECONDS * LONGEST)
    breaker.attempt(AttemptVerdict.NOTHING)
    breaker.attempt(AttemptVerdict.OUTAGE)
    assert breaker.pause_seconds() <= 2 * FIRST_SECONDS * LONGEST, "it failed once, not twice"


@pytest.mark.parametrize("verdict", AttemptVerdict)
def test_the_rest_of_a_burst_changes_nothing(
    breaker: ObservedBreaker, verdict: AttemptVerdict
) -> None:
    burst = [breaker.circuit.admit() for _ in range(20)]
    for admission in burst[:OUTAGES]:
        breaker.circuit.settle(admission, AttemptVerdict.OUTAGE)
    pause_seconds = breaker.pause_seconds()
    for admission in burst[OUTAGES:10]:
        breaker.circuit.settle(admission, verdict)
    assert breaker.pause_seconds() == pause_seconds
    breaker.clock.advance(pause_seconds)
    probe = breaker.circuit.admit()
    for admission in burst[10:]:
        breaker.circuit.settle(admission, verdict)
    breaker.pause_seconds()  # the probe still is the only one
    breaker.circuit.settle(probe, AttemptVerdict.WORKS)
    assert breaker.circuit.is_closed


def test_pauses_vary() -> None:
    pauses: set[float] = set()
    for _ in range(50):
        breaker = ObservedBreaker()
        breaker.fail()
        pauses.add(round(breaker.pause_seconds(), 3))
    assert len(pauses) > 10


STEPS = st.one_of(
    st.just("admit"),
    st.floats(0.0, 6.0),
    st.tuples(st.integers(0, 99), st.sampled_from(AttemptVerdict)),
)


@given(st.lists(STEPS, max_size=200))
def test_while_it_is_open_one_attempt_at_most_is_under_way(
    steps: list[str | float | tuple[int, AttemptVerdict]],
) -> None:
    """Whatever begins and ends in whatever order, time only ever going forward."""
    breaker = ObservedBreaker()
    under_way: list[int] = []
    since_opening: list[int] = []  # admitted since, and not yet settled
    for step in steps:
        if isinstance(step, float):
            breaker.clock.advance(step)
        elif isinstance(step, tuple):
            if under_way:
                admission = under_way.pop(step[0] % len(under_way))
                breaker.circuit.settle(admission, step[1])
                since_opening = [one for one in since_opening if one != admission]
        else:
            was_closed = breaker.circuit.is_closed
            admission = breaker.knock()
            if admission is not None:
                under_way.append(admission)
            if admission is not None and not was_closed:
                since_opening.append(admission)
            assert admission is not None or not was_closed
        if breaker.circuit.is_closed:
            since_opening = []
        assert len(since_opening) <= 1
        assert breaker.told == [number % 2 == 0 for number in range(len(breaker.told))]
        assert breaker.circuit.is_closed is (len(breaker.told) % 2 == 0)
    assert all(0 < pause <= LONGEST_SECONDS * LONGEST for pause in breaker.pauses_seconds)
