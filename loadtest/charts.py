"""Charts as SVG, which browsers and GitHub show."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_WIDTH = 720
_HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 30, 36
# Told apart by people who see no red or no green (Okabe and Ito), and by their dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_DASHES = ("", "6 3", "2 2", "8 2 2 2")
_MAX_TICKS = 5
_STYLE = "font-family:system-ui,sans-serif;font-size:12px"


class ChartPoint(NamedTuple):
    """A point of a line; `y` is None where there is a gap."""

    x: float
    y: float | None


class ChartBar(NamedTuple):
    """A group of bars, one for each series."""

    label: str
    values: Sequence[float]


def line_chart(
    title: str,
    x_unit: str,
    lines: Mapping[str, Sequence[ChartPoint]],
    *,
    end: float | None = None,
    warm_up: float = 0,
) -> str:
    """Returns lines over one axis, as an SVG element.

    :param title: with the unit of the values.
    :param end: the end of the axis; None for the last point.
    :param warm_up: up to where the axis is shaded.
    """
    points = [point for line in lines.values() for point in line]
    step = _step(max((point.y or 0 for point in points), default=0))
    highest = step * _number_of_steps(max((point.y or 0 for point in points), default=0), step)
    last = end or max((point.x for point in points), default=0) or 1
    parts = [*_frame(title, highest, step), *_x_axis(last, x_unit)]
    if warm_up:
        width = _x(min(warm_up / last, 1)) - _LEFT
        parts.append(
            f'<rect x="{_LEFT}" y="{_TOP}" width="{width:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"'
            ' fill="currentColor" opacity=".08"/>'
        )
        parts.append(_text(_LEFT + 4, _TOP + 12, "warm-up"))
    for index, (name, line) in enumerate(lines.items()):
        colour, dash = _look(index)
        parts.append(
            f'<path d="{_path(line, last, highest)}" fill="none" stroke="{colour}"'
            f' stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        parts += _legend(index, name)
    return _svg(title, parts)


def _path(line: Sequence[ChartPoint], last: float, highest: float) -> str:
    path, is_drawing = "", False
    for point in line:
        if point.y is None:
            is_drawing = False
            continue
        x, y = _x(point.x / last), _y(point.y / highest)
        path += f"{'L' if is_drawing else 'M'}{x:.1f} {y:.1f}"
        is_drawing = True
    return path


def bar_chart(title: str, series: Sequence[str], bars: Sequence[ChartBar]) -> str:
    """Returns groups of bars, as an SVG element.

    :param series: the name of each bar in a group.
    """
    longest = max((value for bar in bars for value in bar.values), default=0)
    step = _step(longest)
    highest = step * _number_of_steps(longest, step)
    parts = list(_frame(title, highest, step))
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(bars), 1)
    width = slot * 0.7 / max(len(series), 1)
    for position, bar in enumerate(bars):
        begin = _LEFT + position * slot + slot * 0.15
        for index, value in enumerate(bar.values):
            y = _y(value / highest)
            x = begin + index * width
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}"'
                f' height="{_HEIGHT - _BOTTOM - y:.1f}" fill="{_look(index)[0]}"/>'
            )
            parts.append(
                f'<text x="{x + width * 0.46:.1f}" y="{y - 3:.1f}" text-anchor="middle"'
                f' fill="currentColor" style="font-size:10px">{_number(value)}</text>'
            )
        middle = begin + slot * 0.35
        parts.append(_text(middle, _HEIGHT - _BOTTOM + 16, bar.label, anchor="middle"))
    for index, name in enumerate(series):
        parts += _legend(index, name)
    return _svg(title, parts)


def stacked(charts: Sequence[str]) -> str:
    """Returns several pictures below each other as one, for a file of its own."""
    height = len(charts) * _HEIGHT
    moved = [
        f'<g transform="translate(0 {index * _HEIGHT})">{chart}</g>'
        for index, chart in enumerate(charts)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" color="#222">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>{"".join(moved)}</svg>\n'
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' width="{_WIDTH}" height="{_HEIGHT}" role="img" style="{_STYLE}">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}</svg>"
    )


def _frame(title: str, highest: float, step: float) -> Sequence[str]:
    parts = [_text(4, 16, title, weight="bold")]
    for tick in range(round(highest / step) + 1):
        y = _y(tick * step / highest)
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" opacity=".15"/>'
        )
        parts.append(_text(_LEFT - 6, y + 4, _number(tick * step), anchor="end"))
    return parts


def _x_axis(last: float, unit: str) -> Sequence[str]:
    step = _step(last)
    return [
        _text(
            _x(tick * step / last),
            _HEIGHT - _BOTTOM + 16,
            f"{_number(tick * step)} {unit}",
            anchor="middle",
        )
        for tick in range(int(last / step) + 1)
    ]


def _legend(index: int, name: str) -> Sequence[str]:
    x, y = _LEFT + index * 160, _HEIGHT - 6
    colour, dash = _look(index)
    return [
        f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>',
        _text(x + 24, y, name),
    ]


def _look(index: int) -> tuple[str, str]:
    return _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="currentColor">{html.escape(text)}</text>'
    )


def _x(fraction: float) -> float:
    return _LEFT + fraction * (_WIDTH - _LEFT - _RIGHT)


def _y(fraction: float) -> float:
    return _HEIGHT - _BOTTOM - fraction * (_HEIGHT - _TOP - _BOTTOM)


def _step(highest: float) -> float:
    """Returns the distance of an axis's ticks: 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return 1
    smallest = highest / _MAX_TICKS
    magnitude = 10 ** math.floor(math.log10(smallest))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= smallest)


def _number_of_steps(highest: float, step: float) -> int:
    return max(1, math.ceil(round(highest / step, 6)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
