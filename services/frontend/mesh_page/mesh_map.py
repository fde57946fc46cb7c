"""The mesh page's view: the declared calls as a drawing, with what really happens on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.topology import Edge, GrpcCall, HttpCall, Topology
from services.frontend.mesh_page.figures import VISITORS, EdgeFigures, Figures, ServiceFigures
from services.frontend.mesh_page.graph_layout import Drawing, PlacedEdge, PlacedNode, draw

_ENTRANCE = "frontend"
# Less is in the table: on each of two dozen edges it would hide what matters.
_LEAST_RATE_SHOWN = 0.1
_FACTS_FIT = 20  # characters, in a box of the picture


@dataclass(frozen=True, slots=True)
class NodeView:
    """A service in the drawing. `role` is "service", "visitors" or "external"."""

    placed: PlacedNode
    role: str
    about: str
    figures: ServiceFigures | None
    is_busy: bool
    facts: str


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge; `figures` is None while nothing happened on it.

    :param lines: what topology.yaml says of it, as it stands there.
    :param weight: 1 (few calls) to 4 (most).
    """

    caller: str
    callee: str
    placed: PlacedEdge | None
    is_declared: bool
    protocols: Sequence[str]
    lines: Sequence[str]
    figures: EdgeFigures | None
    weight: int

    @property
    def id(self) -> str:
        """Names the edge in links."""
        return f"{self.caller}-to-{self.callee}"

    @property
    def label(self) -> str:
        """What stands on it in the drawing: what is wrong, or its rate where that is worth it."""
        figures = self.figures
        if figures is None:
            return ""
        if figures.is_circuit_open:
            return "✕ open"
        if figures.numbers.errors:
            return f"✕ {percentage(figures.numbers.error_percent)}"
        if figures.denied_before:
            return "✕ 403"
        if figures.refused:
            return "✕"
        return rate(figures.per_second) if figures.per_second >= _LEAST_RATE_SHOWN else ""

    @property
    def is_bad(self) -> bool:
        """Whether something on it went wrong."""
        figures = self.figures
        return figures is not None and bool(
            figures.numbers.errors
            or figures.refused
            or figures.denied_before
            or figures.is_circuit_open
        )


@dataclass(frozen=True, slots=True)
class MeshView:
    """The whole page. `edges` has the ones with traffic first, busiest first.

    :ivar canaries: the services of which several versions run or have answered.
    :ivar others: all other services.
    """

    drawing: Drawing
    nodes: Sequence[NodeView]
    edges: Sequence[EdgeView]
    canaries: Sequence[ServiceFigures]
    others: Sequence[ServiceFigures]
    notes: Sequence[str]

    @property
    def drawn_edges(self) -> Sequence[EdgeView]:
        """Edges of the drawing, quiet ones first, so that the others lie on top."""
        return sorted(
            (edge for edge in self.edges if edge.placed), key=lambda edge: edge.figures is not None
        )

    @property
    def busy_edges(self) -> Sequence[EdgeFigures]:
        """What happened, edge by edge."""
        return [edge.figures for edge in self.edges if edge.figures is not None]

    @property
    def down(self) -> Sequence[str]:
        """The processes that do not answer."""
        return [
            process.instance
            for service in (*self.canaries, *self.others)
            for process in service.down
        ]

    def edge(self, edge_id: str) -> EdgeView | None:
        """The edge of that id."""
        return next((edge for edge in self.edges if edge.id == edge_id), None)


class MeshMap:
    """The declared shop. The drawing is made once: the topology does not change while a process
    runs.
    """

    def __init__(self, topology: Topology) -> None:
        self.services = topology.services
        self._about: dict[str, tuple[str, str]] = {
            VISITORS: ("visitors", "People and programs outside.")
        }
        self._protocols: dict[tuple[str, str], list[str]] = {(VISITORS, _ENTRANCE): ["HTTP"]}
        self._lines: dict[tuple[str, str], Sequence[str]] = {}
        for name, service in topology.services.items():
            self._about[name] = ("service", service.about)
            for edge in service.calls:
                key = (name, edge.callee)
                self._protocols[key] = ["HTTP"] * bool(edge.http) + ["gRPC"] * bool(edge.grpc)
                self._lines[key] = declared_lines(edge)
            for external in service.external:
                self._about[external.name] = ("external", f"{external.host}, outside the shop.")
                self._protocols[name, external.name] = ["HTTPS"]
        self._drawing = draw(list(self._about), self._protocols)

    def view(self, figures: Figures) -> MeshView:
        """The page's view with the figures of now."""
        busiest_first = sorted(
            figures.edges.values(), key=lambda edge: (-edge.numbers.calls, edge.caller, edge.callee)
        )
        used = {(edge.caller, edge.callee): edge for edge in busiest_first}
        most = max((edge.numbers.calls for edge in busiest_first), default=0)
        placed = {(edge.caller, edge.callee): edge for edge in self._drawing.edges}
        quiet = [edge for edge in self._protocols if edge not in used]
        edges = [
            EdgeView(
                caller=key[0],
                callee=key[1],
                placed=placed.get(key),
                # Visitors reach the public routes of every service through the gateway.
                is_declared=key in self._protocols or key[0] == VISITORS,
                protocols=self._protocols.get(key, ["HTTP"]),
                lines=self._lines.get(key, ()),
                figures=used.get(key),
                weight=_weight(used[key].numbers.calls, most) if key in used else 0,
            )
            for key in (*used, *quiet)
        ]
        services = [figures.services[name] for name in self.services if name in figures.services]
        canaries = [service for service in services if len(service.versions) > 1]
        return MeshView(
            drawing=self._drawing,
            nodes=self._nodes(figures),
            edges=edges,
            canaries=canaries,
            others=[service for service in services if service not in canaries],
            notes=figures.notes,
        )

    def _nodes(self, figures: Figures) -> Sequence[NodeView]:
        busy = {name for edge in figures.edges for name in edge}
        nodes: list[NodeView] = []
        for node in self._drawing.nodes:
            role, about = self._about[node.name]
            service = figures.services.get(node.name) if role == "service" else None
            facts = _facts(service) if service is not None else ""
            if role == "visitors":
                facts = _ways_in(figures)
            nodes.append(NodeView(node, role, about, service, node.name in busy, facts))
        return nodes


def _facts(figures: ServiceFigures) -> str:
    """A service's second line: what is down, a canary's shares, or the version and its rate."""
    if figures.down:
        down, count = len(figures.down), len(figures.processes)
        return "does not answer" if down == count else f"{down} of {count} down"
    if len(figures.versions) > 1:
        shares = " · ".join(f"{one.version} {percentage(one.percent)}" for one in figures.versions)
        return shares if len(shares) <= _FACTS_FIT else f"{len(figures.versions)} versions"
    parts = [one.version for one in figures.versions]
    if figures.numbers.calls:
        parts.append(rate(figures.per_second))
    return " · ".join(parts)


def _ways_in(figures: Figures) -> str:
    """The visitors' second line: pages, and what came through the gateway past the frontend."""
    per_second = {
        callee: edge.per_second
        for (caller, callee), edge in figures.edges.items()
        if caller == VISITORS
    }
    pages = per_second.pop(_ENTRANCE, 0.0)
    if not per_second:
        return rate(pages) if pages else ""
    return f"{rate(pages)} · API {rate(sum(per_second.values()))}"


def declared_lines(edge: Edge) -> Sequence[str]:
    """What topology.yaml says of an edge, in the words and the form of that file."""
    lines = [f"- callee: {edge.callee}"]
    for kind, calls in (("http", edge.http), ("grpc", edge.grpc)):
        if calls:
            lines += [f"  {kind}:", *(f"    - {_flow(call)}" for call in calls)]
    return lines


def rate(per_second: float) -> str:
    """Calls in a second, for people."""
    if 0 < per_second < _LEAST_RATE_SHOWN:
        return "< 0.1/s"
    return f"{per_second:.1f}/s" if per_second < 9.95 else f"{per_second:.0f}/s"


def percentage(value: float) -> str:
    """A share in per cent, for people: only nothing is "0 %"."""
    if 0 < value < 0.05:
        return "< 0.1 %"
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def sparkline(trend: Sequence[float], width: float, height: float) -> str:
    """A trend as SVG path data: a line from left to right, as high as its highest point."""
    most = max(trend, default=0.0) or 1.0
    step = width / max(1, len(trend) - 1)
    points = (
        f"{number * step:.1f} {height - value / most * height:.1f}"
        for number, value in enumerate(trend)
    )
    return "M" + "L".join(points)


def _flow(call: HttpCall | GrpcCall) -> str:
    """A declared call as a mapping in YAML's flow style, without what it leaves at the default."""
    given = call.model_dump(mode="json", exclude_defaults=True)
    return "{" + ", ".join(f"{name}: {_scalar(value)}" for name, value in given.items()) + "}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f'"{text}"' if "{" in text else text


def _weight(calls: int, most: int) -> int:
    """By orders of magnitude: a busy edge must not make all others look idle."""
    return 1 + round(3 * math.log1p(calls) / math.log1p(most)) if most else 1
