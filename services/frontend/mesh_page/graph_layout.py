"""The call graph as a drawing: services in columns, so that calls point to the right.

A small Sugiyama layout (Sugiyama, Tagawa, Toda 1981): break cycles, put each node one column after
its last caller, split long edges with bends, and order each column by the middle of its neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

NODE_WIDTH = 168
NODE_HEIGHT = 60
COLUMN_GAP = 84
ROW_GAP = 28
MARGIN = 16
_SWEEPS = 12

Name = str
Edge = tuple[Name, Name]


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A box; `x` and `y` are its upper left corner."""

    name: Name
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class PlacedEdge:
    """A curve: `path` is SVG path data; its label is where its figures stand."""

    caller: Name
    callee: Name
    path: str
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole graph, in SVG user units."""

    width: float
    height: float
    nodes: Sequence[PlacedNode]
    edges: Sequence[PlacedEdge]
    node_width: float = NODE_WIDTH
    node_height: float = NODE_HEIGHT


@dataclass(frozen=True, slots=True)
class _Bend:
    """Where a long edge crosses a column between its ends."""

    edge: Edge
    column: int


_Item = Name | _Bend


def draw(names: Sequence[Name], edges: Iterable[Edge]) -> Drawing:
    """Lays the graph out. The order of names decides which edge of a cycle points back."""
    all_edges = sorted(set(edges), key=lambda edge: (names.index(edge[0]), names.index(edge[1])))
    forward = _without_cycles(all_edges)
    columns_of = _columns(names, forward)
    columns, chains = _with_bends(names, all_edges, columns_of)
    _order(columns, chains.values())
    return _place(columns, chains)


def _without_cycles(edges: Sequence[Edge]) -> Sequence[Edge]:
    """As many edges as possible in their order, without those that would close a cycle."""
    callees: defaultdict[Name, set[Name]] = defaultdict(set)

    def reaches(start: Name, goal: Name) -> bool:
        return start == goal or any(reaches(callee, goal) for callee in callees[start])

    kept: list[Edge] = []
    for caller, callee in edges:
        if not reaches(callee, caller):
            callees[caller].add(callee)
            kept.append((caller, callee))
    return kept


def _columns(names: Sequence[Name], edges: Sequence[Edge]) -> Mapping[Name, int]:
    """Each node one column after the last of those that call it."""
    callers: defaultdict[Name, list[Name]] = defaultdict(list)
    for caller, callee in edges:
        callers[callee].append(caller)
    known: dict[Name, int] = {}

    def column(name: Name) -> int:
        if name not in known:
            known[name] = max((column(caller) + 1 for caller in callers[name]), default=0)
        return known[name]

    return {name: column(name) for name in names}


def _with_bends(
    names: Sequence[Name], edges: Sequence[Edge], columns_of: Mapping[Name, int]
) -> tuple[list[list[_Item]], dict[Edge, list[_Item]]]:
    columns: list[list[_Item]] = [[] for _ in range(max(columns_of.values(), default=0) + 1)]
    for name in names:
        columns[columns_of[name]].append(name)
    chains: dict[Edge, list[_Item]] = {}
    for edge in edges:
        start, end = columns_of[edge[0]], columns_of[edge[1]]
        step = 1 if end > start else -1
        bends = [_Bend(edge, column) for column in range(start + step, end, step)]
        for bend in bends:
            columns[bend.column].append(bend)
        chains[edge] = [edge[0], *bends, edge[1]]
    return columns, chains


def _order(columns: list[list[_Item]], chains: Iterable[Sequence[_Item]]) -> None:
    """Sweeps right and left, sorting each column by the mean position of its neighbours there
    (barycentre).
    """
    neighbours: defaultdict[_Item, list[_Item]] = defaultdict(list)
    for chain in chains:
        for first, second in pairwise(chain):
            neighbours[first].append(second)
            neighbours[second].append(first)
    for sweep in range(_SWEEPS):
        order = range(1, len(columns)) if sweep % 2 == 0 else range(len(columns) - 2, -1, -1)
        for index in order:
            fixed = columns[index - 1 if sweep % 2 == 0 else index + 1]
            place = {item: _relative(position, fixed) for position, item in enumerate(fixed)}
            column = columns[index]
            keys: dict[_Item, float] = {}
            for position, item in enumerate(column):
                near = [place[other] for other in neighbours[item] if other in place]
                keys[item] = sum(near) / len(near) if near else _relative(position, column)
            column.sort(key=keys.__getitem__)


def _relative(position: int, column: Sequence[_Item]) -> float:
    return (position + 0.5) / len(column)


def _place(columns: Sequence[Sequence[_Item]], chains: Mapping[Edge, Sequence[_Item]]) -> Drawing:
    def height(item: _Item) -> float:
        return ROW_GAP / 2 if isinstance(item, _Bend) else NODE_HEIGHT

    def column_height(column: Sequence[_Item]) -> float:
        return sum(height(item) for item in column) + ROW_GAP * max(0, len(column) - 1)

    tallest = max(column_height(column) for column in columns)
    centres: dict[_Item, tuple[float, float]] = {}
    nodes: list[PlacedNode] = []
    for index, column in enumerate(columns):
        left = MARGIN + index * (NODE_WIDTH + COLUMN_GAP)
        top = MARGIN + (tallest - column_height(column)) / 2
        for item in column:
            centres[item] = (left + NODE_WIDTH / 2, top + height(item) / 2)
            if not isinstance(item, _Bend):
                nodes.append(PlacedNode(item, left, top))
            top += height(item) + ROW_GAP
    return Drawing(
        width=2 * MARGIN + len(columns) * NODE_WIDTH + (len(columns) - 1) * COLUMN_GAP,
        height=2 * MARGIN + tallest,
        nodes=nodes,
        edges=[_curve(edge, [centres[item] for item in chain]) for edge, chain in chains.items()],
    )


def _curve(edge: Edge, centres: Sequence[tuple[float, float]]) -> PlacedEdge:
    """Smooth from box to box: level through every bend, and level out of the boxes' sides."""
    rightward = centres[-1][0] > centres[0][0]
    if not rightward:  # beside the edge that points the other way, not on it
        centres = [(x, y + NODE_HEIGHT / 4) for x, y in centres]
    half = NODE_WIDTH / 2 if rightward else -NODE_WIDTH / 2
    points = [(centres[0][0] + half, centres[0][1])]
    for x, y in centres[1:-1]:
        points += [(x - half, y), (x + half, y)]
    points.append((centres[-1][0] - half, centres[-1][1]))
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x1, y1), (x2, y2) in pairwise(points):
        middle = (x1 + x2) / 2
        parts.append(f"C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}")
    label_x, label_y = _label(points)
    return PlacedEdge(edge[0], edge[1], "".join(parts), label_x, label_y)


def _label(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where an edge's label is not in the way of others: on a level part, of which each edge has
    its own; without one nearer to the callee, where edges of one caller have parted.
    """
    bends = (len(points) - 2) // 2
    if bends:
        first = 1 + 2 * ((bends - 1) // 2)
        (x1, y1), (x2, y2) = points[first : first + 2]
        return (x1 + x2) / 2, (y1 + y2) / 2
    (x1, y1), (x2, y2) = points
    along = 0.55
    # The curve's own height there: a cubic whose control points are level with its ends.
    height = along**2 * (3 - 2 * along)
    return x1 + along * (x2 - x1), y1 + height * (y2 - y1)
