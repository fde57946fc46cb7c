"""A README.md that can be run: a scenario's, or that of a mesh's first hour.

All have one form, which `read` reads:

    # title, and what it shows
    ## What must be there   the commands for it; one that forwards a port goes on
    ## Apply                commands; then perhaps one that forwards a port which they open
    ## Try it               commands
    ## You should see       what they print
    ## Then                 instead of Apply, for each further round of these three
    ## Take it back         commands

What they print is written line by line. A line stands for itself, with `…` for anything. After
`sort | uniq -c` a line is a count and a text, and a count that chance decides is written so:

    about 10 of 100 v2      ten of a hundred draws are expected, give or take three standard
                            deviations of the binomial distribution
    at least 10 503         ten or more
    at most 10 503          ten, fewer, or no such line
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FORWARDS = re.compile(r"kubectl -n \S+ port-forward \S+ (\d+):\d+")
_COUNTED = re.compile(r"(about|at least|at most) (\d+)(?: of (\d+))? (.+)")
_STANDARD_DEVIATIONS = 3
_BEFORE, _AFTER = "What must be there", "Take it back"
_ROUND = ("Apply", "Try it", "You should see")


class Round(NamedTuple):
    """A change, and what shows it."""

    change: str
    look: str
    sees: Sequence[str]


@dataclass(frozen=True, slots=True)
class Readme:
    """What a README.md tells people to do.

    :ivar forwards: the commands that go on, and the port of this machine that each opens.
    :ivar prepare: makes what must be there.
    """

    forwards: Sequence[tuple[str, int]]
    prepare: Sequence[str]
    rounds: Sequence[Round]
    take_back: str


class NotInForm(ValueError):
    """A README.md that cannot be run; the message says what is wrong with it."""


def says_there_is_none(path: Path) -> bool:
    """Whether it tells that this mesh has no such thing."""
    return path.read_text(encoding="utf-8").startswith("# No equivalent in ")


def read(path: Path) -> Readme:
    """Reads a README.md.

    :raises NotInForm: it has another form.
    """
    introduction, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = [(title, body) for title, _, body in (part.partition("\n") for part in parts)]
    titles = [title for title, _ in sections]
    changes = len(titles[1:-1]) // len(_ROUND)
    middle = [*_ROUND, *(("Then", *_ROUND[1:]) * (changes - 1))]
    if not introduction.startswith("# ") or titles != [_BEFORE, *middle, _AFTER]:
        raise NotInForm(f"{path}: its headings are {titles}")
    before, applied, *between, after = (_blocks(path, title, body) for title, body in sections)
    between.insert(0, [command for command in applied if not forwarded_by(command)])
    forwards = [found for command in [*before, *applied] if (found := forwarded_by(command))]
    return Readme(
        forwards=forwards,
        prepare=[command for command in before if not forwarded_by(command)],
        rounds=[
            Round(_only(path, change), _only(path, look), _only(path, sees).splitlines())
            for change, look, sees in zip(*[iter(between)] * len(_ROUND), strict=True)
        ],
        take_back=_only(path, after),
    )


def _blocks(path: Path, title: str, body: str) -> list[str]:
    """The fenced blocks of a section."""
    kind = "text" if title == "You should see" else "sh"
    found = [(match[1], match[2]) for match in _FENCE.finditer(body)]
    if any(language != kind for language, _ in found):
        raise NotInForm(f"{path}: below {title!r} a block is no `{kind}`")
    return [text for _, text in found]


def _only(path: Path, blocks: Sequence[str]) -> str:
    if len(blocks) != 1:
        raise NotInForm(f"{path}: a section has {len(blocks)} blocks in the place of one")
    return blocks[0]


def forwarded_by(command: str) -> tuple[str, int] | None:
    """A command that goes on, and the port of this machine that it opens; None for any other."""
    found = _FORWARDS.fullmatch(command.strip())
    return (command, int(found[1])) if found else None


def disagreement(expected: Sequence[str], printed: str) -> str:
    """What differs between what a README.md says and what was printed; empty when nothing does."""
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    for wanted in (" ".join(line.split()) for line in expected):
        if (counted := _COUNTED.fullmatch(wanted)) is None:
            if not lines or not _fits(wanted, lines[0]):
                return f"wanted {wanted!r}, and there is {lines[:1]}"
            lines.pop(0)
            continue
        count, _, text = lines[0].partition(" ") if lines else ("", "", "")
        found = 0
        if count.isdigit() and _fits(counted[4], text):
            found = int(count)
            lines.pop(0)
        if not _is_within(counted, found):
            return f"wanted {wanted!r}, and there are {found}"
    return f"there is more: {lines}" if lines else ""


def _fits(wanted: str, line: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in wanted.split("…"))
    return re.fullmatch(pattern, line) is not None


def _is_within(wanted: re.Match[str], found: int) -> bool:
    number = int(wanted[2])
    if wanted[1] == "at least":
        return found >= number
    if wanted[1] == "at most":
        return found <= number
    draws = int(wanted[3])
    deviation = math.sqrt(number * (draws - number) / draws)
    return abs(found - number) <= _STANDARD_DEVIATIONS * deviation
