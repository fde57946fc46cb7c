"""Pictures of runs as SVG, which browsers and GitHub show without anything else."""

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
_TICKS = 4
_STYLE = "font-family:system-ui,sans-serif;font-size:12px"


class ChartPoint(NamedTuple):
    """A point of a line; `y` is None where there is a gap."""

    x: float
    y: float | None


class ChartBar(NamedTuple):
    """A group of bars, one for each series."""

    label: str
    values: Sequence[float]


def line_chart(title: str, x_unit: str, lines: Mapping[str, Sequence[ChartPoint]]) -> str:
    """Returns lines over one axis, as an SVG element.

    :param title: with the unit of the values.
    """
    points = [point for line in lines.values() for point in line]
    highest = _ceiling(max((point.y or 0 for point in points), default=0))
    last = max((point.x for point in points), default=0) or 1
    parts = [*_frame(title, highest), *_x_axis(last, x_unit)]
    for index, (name, line) in enumerate(lines.items()):
        colour, dash = _look(index)
        path, is_drawing = "", False
        for point in line:
            if point.y is None:
                is_drawing = False
                continue
            x, y = _x(point.x / last), _y(point.y / highest)
            path += f"{'L' if is_drawing else 'M'}{x:.1f} {y:.1f}"
            is_drawing = True
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"'
            f' stroke-dasharray="{dash}"/>'
        )
        parts += _legend(index, name)
    return _svg(title, parts)


def bar_chart(title: str, series: Sequence[str], bars: Sequence[ChartBar]) -> str:
    """Returns groups of bars, as an SVG element.

    :param series: the name of each bar in a group.
    """
    highest = _ceiling(max((value for bar in bars for value in bar.values), default=0))
    parts = list(_frame(title, highest))
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


def _frame(title: str, highest: float) -> Sequence[str]:
    parts = [_text(4, 16, title, weight="bold")]
    for tick in range(_TICKS + 1):
        y = _y(tick / _TICKS)
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" opacity=".15"/>'
        )
        parts.append(_text(_LEFT - 6, y + 4, _number(highest * tick / _TICKS), anchor="end"))
    return parts


def _x_axis(last: float, unit: str) -> Sequence[str]:
    return [
        _text(
            _x(tick / _TICKS),
            _HEIGHT - _BOTTOM + 16,
            f"{_number(last * tick / _TICKS)} {unit}",
            anchor="end" if tick == _TICKS else "middle",
        )
        for tick in range(_TICKS + 1)
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


def _ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …; 1 for nothing."""
    if value <= 0:
        return 1
    magnitude = 10 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
