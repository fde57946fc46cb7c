"""Lab 07: what its check says of visitors who see another look than theirs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import MeshName

_LOOKS = ("stable", "mobile-optimized", "beta-features")
Looks = Callable[[str, str], Mapping[str, int]]


def _as_meant(agent: str, group: str) -> Mapping[str, int]:
    """By User-Agent and x-user-group: which look, for so many of 14 pages."""
    if group == "beta":
        return {"beta-features": 14}
    return {"mobile-optimized" if "Mobile" in agent else "stable": 14}


def _telephones_first(agent: str, group: str) -> Mapping[str, int]:
    return {"mobile-optimized": 14} if "Mobile" in agent else _as_meant(agent, group)


def _android_only(agent: str, group: str) -> Mapping[str, int]:
    return {"stable": 14} if "iPhone" in agent and not group else _as_meant(agent, group)


def _any_group(agent: str, group: str) -> Mapping[str, int]:
    return _as_meant(agent, "beta" if group else "")


def _telephones_without_a_group(agent: str, group: str) -> Mapping[str, int]:
    return {"stable": 14} if group == "staff" else _as_meant(agent, group)


def _by_chance(agent: str, group: str) -> Mapping[str, int]:
    return {"beta-features": 5, "mobile-optimized": 5, "stable": 4}


def _one_error(agent: str, group: str) -> Mapping[str, int]:
    return {"stable": 13, "503": 1} if not group else _as_meant(agent, group)


@dataclass
class Shop07(PretendedShop):
    """A shop in a mesh, and somebody at its gateway."""

    looks: Looks = _as_meant
    deployed: Sequence[str] = _LOOKS

    async def pods(self, workload: str) -> list[Any]:
        assert workload == "frontend"
        return [{"metadata": {"labels": {"version": look}}} for look in self.deployed]

    async def versions(self, count: int, *, path: str, headers: Mapping[str, str]) -> Counter[str]:
        assert path == "/about"
        seen = Counter(self.looks(headers["user-agent"], headers.get("x-user-group", "")))
        assert seen.total() == count
        return seen


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
async def test_what_is_right_is_told_right(mesh: MeshName) -> None:
    told = Shop07(mesh)

    findings = await findings_of("07", told)

    assert [each.is_right for each in findings] == [True] * 9, findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


_BROKEN = [
    (
        Shop07(looks=_telephones_first),
        "beta group on a telephone see 14 times mobile-optimized, not",
    ),
    (
        Shop07(looks=_android_only),
        "visitors on an iPhone see 14 times stable, not mobile-optimized",
    ),
    (Shop07(looks=_any_group), "of another group at a desk see 14 times beta-features, not stable"),
    (
        Shop07(looks=_telephones_without_a_group),
        "of another group on a telephone see 14 times stable, not mobile-optimized",
    ),
    (Shop07(looks=_by_chance), "at a desk see 5 times beta-features and 5 times mobile-optimized"),
    (Shop07(looks=_one_error), "at a desk see 1 times 503 and 13 times stable, not stable"),
    (Shop07(deployed=_LOOKS[:2]), "no pod of the variant beta-features is ready"),
    (Shop07(order=503), r"a customer cannot buy \(the answer is 503\)"),
]


@pytest.mark.parametrize(("told", "sentence"), _BROKEN, ids=map(str, range(len(_BROKEN))))
async def test_what_is_wrong_is_told_wrong(told: Shop07, sentence: str) -> None:
    wrong = [each for each in await findings_of("07", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"
