"""Draws each journey's CPU time by service as a bar, above the bar of the floor (SVG)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.bench.report import Measurement
from tests.bench.rounds import OUTSIDE
from tests.bench.shops import TOPOLOGY
from tests.bench.sides import FLOOR

_WIDTH = 900
_LEFT = 230
_RIGHT = 130
_BAR = 18
_ROW = 56
_TOP = 78
# Colours that colour-blind people can tell apart (https://personal.sron.nl/~pault/), in the order
# of topology.yaml.
_COLOURS: Mapping[str, str] = {
    "frontend": "#4477aa",
    "auth": "#bbbbbb",
    "user": "#ee6677",
    "product": "#228833",
    "payment": "#ccbb44",
    "inventory": "#66ccee",
    "order": "#aa3377",
    "shipping": "#ee8866",
    "notification": "#77aadd",
}


@dataclass(frozen=True, slots=True)
class BarPair:
    """One journey's CPU ms per request by service, and the floor's."""

    label: str
    shop: Mapping[str, float]
    floor: Mapping[str, float]


def bar_pairs(measurement: Measurement) -> Sequence[BarPair]:
    """Returns the bars of all journeys. What is outside the shop is left out."""
    findings = measurement.findings()

    def own(name: str, side: str) -> Mapping[str, float]:
        found = findings.cpu_ms_by_service(name, side)
        return {service: ms for service, ms in found.items() if service not in OUTSIDE}

    return [
        BarPair(about.replace("`", ""), own(name, TOPOLOGY), own(name, FLOOR))
        for name, about in measurement.abouts.items()
    ]


def drawn(pairs: Sequence[BarPair]) -> str:
    """Returns the picture. Each pair has its own scale, so that a page's bars are as wide as an
    order's.
    """
    height = _TOP + _ROW * len(pairs)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="13" role="img">',
        "<title>CPU time per request by service, beside the floor</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 22, "CPU milliseconds per request: the shop by service, and the same calls"),
        _text(12, 40, "between bare handlers (the floor). Each pair has its own scale."),
        *_legend(),
    ]
    for number, pair in enumerate(pairs):
        lines.extend(_pair(pair, _TOP + _ROW * number))
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterator[str]:
    x = 12
    for service, colour in _COLOURS.items():
        yield _bar(x, 52, 10, 10, colour)
        yield _text(x + 14, 61, service, size=11)
        x += 30 + 7 * len(service)


def _pair(pair: BarPair, top: int) -> Iterator[str]:
    scale = (_WIDTH - _LEFT - _RIGHT) / max(sum(pair.shop.values()), sum(pair.floor.values()))
    yield _text(12, top + 14, pair.label)
    for offset, parts, what in ((0, pair.shop, "shop"), (_BAR + 2, pair.floor, "floor")):
        x = float(_LEFT)
        for service in sorted(parts, key=list(_COLOURS).index):
            yield _bar(x, top + offset, parts[service] * scale, _BAR, _COLOURS[service])
            x += parts[service] * scale
        yield _text(x + 6, top + offset + 14, f"{sum(parts.values()):.2f} ms ({what})", size=12)


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{height:g}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" font-size="{size}" fill="#222222">{escape(text)}</text>'
