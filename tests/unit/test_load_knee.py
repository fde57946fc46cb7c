"""The knee is the last level at which the shop keeps up."""

from __future__ import annotations

from loadtest.knee import is_reached, knee, steps_of, table
from loadtest.recording import RequestTally, RunRecord
from tests.unit.load_runs import made_up_run, took


def knee_level(run: RunRecord) -> float | None:
    found = knee(steps_of(run))
    return found.level if found else None


def test_throughput_that_stops_growing_is_beyond_the_knee():
    run = made_up_run([10, 20, 30, 40, 50], lambda level: took(int(min(level, 30)), 10))

    assert knee_level(run) == 30  # 40 promise a third more than there is
    assert "knee: 30 users, with 30.0 requests/s" in table(run)


def test_answers_that_become_slow_are_beyond_the_knee():
    run = made_up_run([10, 20, 30], lambda level: took(int(level), 20 if level < 25 else 900))

    assert knee_level(run) == 20
    assert "p95 is 45 times that of the first step" in table(run)


def test_answers_that_nobody_finds_slow_are_not():
    run = made_up_run([10, 20, 30], lambda level: took(int(level), 2 if level < 25 else 90))

    assert knee_level(run) == 30
    assert not is_reached(steps_of(run))
    assert "knee: above 30 users; go higher" in table(run)


def test_failures_are_beyond_the_knee():
    run = made_up_run(
        [10, 20, 30], lambda level: took(100 * int(level), 10, failures=50 if level > 25 else 0)
    )

    assert knee_level(run) == 20
    assert "more than 1 % failed" in table(run)


def test_a_first_step_that_is_too_much_leaves_no_knee():
    run = made_up_run([10, 20], lambda level: took(int(level), 10, failures=int(level)))

    assert knee_level(run) is None
    assert "knee: below the first step" in table(run)


def test_a_run_without_answers_has_no_knee():
    assert knee_level(made_up_run([10, 20], lambda _: RequestTally())) is None


def test_arrivals_have_their_unit():
    run = made_up_run([1, 2, 3], lambda level: took(int(min(level, 2)), 10), is_open=True)

    assert "knee: 2 arrivals/s" in table(run)


def test_a_first_step_with_few_requests_by_chance_hides_no_knee():
    def second(level: float) -> RequestTally:
        return took(1 if level == 1 else int(8 * min(level, 3)), 10)

    # The first four steps promise 6.5 requests for each arrival, so 32.5 at 5; there are 24.
    assert knee_level(made_up_run([1, 2, 3, 4, 5, 6], second, is_open=True)) == 4
