"""The shapes of a run: the number of users, or of shoppers who arrive per second, at each time.

Nothing here needs locust. A shape is a list of stages; the level of a stage is a
number of users, or with an arrival rate a number of shoppers per second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_SPIKE_BASE = 0.25
_WAVES = 2
_STAGES_PER_WAVE = 12
_WAVE_BASE = 0.1
_SMOKE_USERS = 2.0


class LoadStage(NamedTuple):
    """A part of a run with one level.

    :ivar seconds: how long it lasts.
    """

    seconds: float
    level: float


class Window(NamedTuple):
    """A stage in a run: seconds from its start, and the level."""

    begin: float
    end: float
    level: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A named shape.

    :ivar seconds: how long it lasts if the command line does not say.
    :ivar users: the highest level if the command line does not say. A tenth of it is the arrival
        rate, since a shopper in a closed loop makes about a visit in ten seconds.
    :ivar stages: returns the stages for a highest level, a duration and a number of steps.
    """

    about: str
    seconds: float
    users: float
    stages: Callable[[float, float, int], Sequence[LoadStage]]


@dataclass(frozen=True, slots=True)
class Course:
    """The levels of a run from its start: a warm-up at the first level, then the stages.

    :ivar warm_up_seconds: what happens in this time is not counted.
    """

    warm_up_seconds: float
    stages: Sequence[LoadStage]

    @property
    def seconds(self) -> float:
        """The duration with the warm-up."""
        return self.warm_up_seconds + sum(stage.seconds for stage in self.stages)

    def level(self, at_seconds: float) -> float | None:
        """Returns the level at a time from the start; None once the run is over."""
        if at_seconds < self.warm_up_seconds:
            return self.stages[0].level
        for window in self.windows():
            if at_seconds < window.end:
                return window.level
        return None

    def windows(self) -> Iterator[Window]:
        """Yields the stages after the warm-up."""
        begin = self.warm_up_seconds
        for stage in self.stages:
            yield Window(begin, begin + stage.seconds, stage.level)
            begin += stage.seconds


def _steady(peak: float, seconds: float, _: int) -> Sequence[LoadStage]:
    return [LoadStage(seconds, peak)]


def _smoke(peak: float, seconds: float, _: int) -> Sequence[LoadStage]:
    return [LoadStage(seconds, min(peak, _SMOKE_USERS))]


def _steps(peak: float, seconds: float, steps: int) -> Sequence[LoadStage]:
    return [LoadStage(seconds / steps, peak * number / steps) for number in range(1, steps + 1)]


def _spike(peak: float, seconds: float, _: int) -> Sequence[LoadStage]:
    base = LoadStage(0.3 * seconds, _SPIKE_BASE * peak)
    return [base, LoadStage(0.4 * seconds, peak), base]


def _wave(peak: float, seconds: float, _: int) -> Sequence[LoadStage]:
    number = _WAVES * _STAGES_PER_WAVE
    swing = (1 - _WAVE_BASE) * peak / 2
    return [
        LoadStage(
            seconds / number,
            _WAVE_BASE * peak + swing * (1 - math.cos(math.tau * step / _STAGES_PER_WAVE)),
        )
        for step in range(number)
    ]


SHAPES: Mapping[str, Shape] = {
    "steady": Shape("one level", 30, 20, _steady),
    "smoke": Shape("two users: does everything work?", 15, _SMOKE_USERS, _smoke),
    "steps": Shape("ten steps up (--steps): where is the knee?", 150, 100, _steps),
    "spike": Shape("a quarter, then all at once, then a quarter again", 90, 100, _spike),
    "wave": Shape("two slow waves, from a tenth to all", 180, 60, _wave),
    "soak": Shape("one level for an hour: does anything grow?", 3600, 20, _steady),
}


def course(
    name: str,
    *,
    peak: float | None,
    seconds: float | None,
    steps: int,
    warm_up_seconds: float,
    is_open: bool,
) -> Course:
    """Returns the course of a run with a shape.

    :param peak: the highest level; None for that of the shape.
    :param seconds: how long it lasts without the warm-up; None for that of the shape.
    :param is_open: whether the level is an arrival rate.
    """
    shape = SHAPES[name]
    usual = shape.users / 10 if is_open else shape.users
    stages = shape.stages(peak or usual, seconds or shape.seconds, steps)
    return Course(warm_up_seconds, stages)
