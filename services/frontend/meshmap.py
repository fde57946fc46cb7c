"""The mesh page's view: the declared calls as a drawing, with what really happens on them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.topology import Topology
from services.frontend.figures import VISITORS, EdgeFigures
from services.frontend.graph import Drawing, PlacedEdge, PlacedNode, draw

_ENTRANCE = "frontend"


@dataclass(frozen=True, slots=True)
class NodeView:
    """A service in the drawing. `role` is "service", "visitors" or "external"."""

    placed: PlacedNode
    role: str
    about: str
    versions: Sequence[str]
    instances: Sequence[str]
    is_busy: bool


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge; `figures` is None while nothing happened on it.

    :param weight: 1 (few calls) to 4 (most).
    """

    caller: str
    callee: str
    placed: PlacedEdge | None
    is_declared: bool
    protocols: Sequence[str]
    operations: Sequence[str]
    figures: EdgeFigures | None
    weight: int

    @property
    def id(self) -> str:
        """Names the edge in links."""
        return f"{self.caller}-to-{self.callee}"


@dataclass(frozen=True, slots=True)
class MeshView:
    """The whole page. `edges` has the ones with traffic first, busiest first."""

    drawing: Drawing
    nodes: Sequence[NodeView]
    edges: Sequence[EdgeView]
    calls: int
    errors: int

    @property
    def drawn_edges(self) -> Sequence[EdgeView]:
        """Edges of the drawing, quiet ones first, so that the others lie on top."""
        return sorted(
            (edge for edge in self.edges if edge.placed), key=lambda edge: edge.figures is not None
        )


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
        self._operations: dict[tuple[str, str], list[str]] = {}
        for name, service in topology.services.items():
            self._about[name] = ("service", service.about)
            for edge in service.calls:
                key = (name, edge.callee)
                self._protocols[key] = ["HTTP"] * bool(edge.http) + ["gRPC"] * bool(edge.grpc)
                self._operations[key] = [call.operation for call in (*edge.http, *edge.grpc)]
            for external in service.external:
                self._about[external.name] = ("external", f"{external.host}, outside the shop.")
                self._protocols[name, external.name] = ["HTTPS"]
        self._drawing = draw(list(self._about), self._protocols)

    def view(self, figures: Sequence[EdgeFigures]) -> MeshView:
        """The page's view with the figures of now."""
        by_edge = {(edge.caller, edge.callee): edge for edge in figures}
        most = max((edge.calls for edge in figures), default=0)
        placed = {(edge.caller, edge.callee): edge for edge in self._drawing.edges}
        quiet = [edge for edge in self._protocols if edge not in by_edge]
        edges = [
            EdgeView(
                caller=key[0],
                callee=key[1],
                placed=placed.get(key),
                # Visitors reach the public routes of every service through the gateway.
                is_declared=key in self._protocols or key[0] == VISITORS,
                protocols=self._protocols.get(key, ["HTTP"]),
                operations=self._operations.get(key, ()),
                figures=by_edge.get(key),
                weight=_weight(by_edge[key].calls, most) if key in by_edge else 0,
            )
            for key in (*by_edge, *quiet)
        ]
        return MeshView(
            drawing=self._drawing,
            nodes=self._nodes(figures),
            edges=edges,
            calls=sum(edge.calls for edge in figures),
            errors=sum(edge.errors for edge in figures),
        )

    def _nodes(self, figures: Sequence[EdgeFigures]) -> Sequence[NodeView]:
        versions = _gathered({edge: edge.versions for edge in figures})
        instances = _gathered({edge: edge.instances for edge in figures})
        busy = {edge.callee for edge in figures} | {edge.caller for edge in figures}
        return [
            NodeView(
                placed=node,
                role=self._about[node.name][0],
                about=self._about[node.name][1],
                versions=sorted(versions[node.name]),
                instances=sorted(instances[node.name]),
                is_busy=node.name in busy,
            )
            for node in self._drawing.nodes
        ]


def _gathered(names_by_edge: Mapping[EdgeFigures, Sequence[str]]) -> Mapping[str, set[str]]:
    gathered: defaultdict[str, set[str]] = defaultdict(set)
    for edge, names in names_by_edge.items():
        gathered[edge.callee].update(names)
    return gathered


def _weight(calls: int, most: int) -> int:
    """By orders of magnitude: a busy edge must not make all others look idle."""
    return 1 + round(3 * math.log1p(calls) / math.log1p(most))
