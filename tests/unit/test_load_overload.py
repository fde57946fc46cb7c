"""A shop that is sent too much refuses fast, and is soon as before."""

from __future__ import annotations

from loadtest.overload import judge, recovery_seconds
from loadtest.recording import RequestTally, RunRecord, Second
from loadtest.shapes import Window
from tests.unit.load_runs import made_up_run, took

WINDOWS = [Window(0, 20, 5), Window(20, 40, 20), Window(40, 60, 5)]


def overloaded(
    *, slow_until: int = 40, failing_until: int = 0, refusing_until: int = 40
) -> RunRecord:
    """A run whose shop is slow, fails or refuses until some time; the overload ends after 40 s."""

    def pages(at: int) -> RequestTally:
        is_slow = 20 <= at < slow_until
        failures = 1 if 20 <= at < failing_until else 0
        return took(50, 900 if is_slow else 40, failures=failures)

    series = [Second(at=at, group="pages", tally=pages(at)) for at in range(60)]
    series += [Second(at=at, group="shed", tally=took(10, 5)) for at in range(20, refusing_until)]
    run = made_up_run([5], lambda _: RequestTally(), shape="spike", is_open=True)
    return run.model_copy(update={"windows": WINDOWS, "series": series})


def test_a_shop_that_is_as_before_at_once_has_recovered():
    assert recovery_seconds(overloaded()) == 0
    assert judge(overloaded()).is_met


def test_slow_answers_delay_the_recovery():
    assert recovery_seconds(overloaded(slow_until=47)) == 6


def test_failures_delay_the_recovery():
    assert recovery_seconds(overloaded(failing_until=45)) == 4


def test_refused_requests_delay_the_recovery():
    assert recovery_seconds(overloaded(refusing_until=44)) == 3


def test_a_shop_that_stays_slow_has_not_recovered():
    verdict = judge(overloaded(slow_until=60))

    assert recovery_seconds(overloaded(slow_until=60)) is None
    assert not verdict.is_met
    assert "never" in str(verdict)


def test_a_late_recovery_is_too_late():
    assert not judge(overloaded(slow_until=55)).is_met


def test_the_share_of_refused_requests_is_told():
    assert "refused during the overload: 200 of 1200 (17%)" in str(judge(overloaded()))


def test_a_shop_that_refuses_nothing_does_not_shed():
    verdict = judge(overloaded(refusing_until=20))

    assert [each.what for each in verdict.checks if not each.is_met] == ["refused requests"]
