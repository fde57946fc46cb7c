"""The reviewed manifests of the chart, one file for each file of tests/cluster/values: `default` in
full, the others as their differences to it, object by object.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from tests.testkit.cluster import ROOT, Object

BASE = "default"
FOLDER = ROOT / "tests/cluster/goldens"

_KIND = re.compile(r"^kind: (.+)$", re.MULTILINE)
_NAME = re.compile(r"^  name: (.+)$", re.MULTILINE)
_NAMESPACE = re.compile(r"^  namespace: (.+)$", re.MULTILINE)
_OBJECT = re.compile(r"^--- (.+)\n\+\+\+ .+\n", re.MULTILINE)
_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? .+ @@\n", re.MULTILINE)
_CONTEXT_LINES = 1
_MISSING = "nothing"

Manifests = Mapping[str, str]
"""The text of each object, by ``Kind/namespace/name``."""


def manifests_of(text: str) -> Manifests:
    """The objects of a text of YAML, in its order.

    :raises AssertionError: two of them have one name.
    """
    parts = [each for each in text.removeprefix("---\n").split("\n---\n") if _KIND.search(each)]
    manifests = {_identity(part): part.rstrip("\n") + "\n" for part in parts}
    assert len(manifests) == len(parts), "two objects have one name"
    return manifests


def golden(case: str) -> Manifests:
    """The reviewed objects of a case, those of the base first."""
    base = manifests_of(file_of(BASE).read_text(encoding="utf-8"))
    if case == BASE:
        return base
    _, *parts = _OBJECT.split(file_of(case).read_text(encoding="utf-8"))
    changed = {
        name: _patched(base.get(name, ""), hunks) if hunks else ""
        for name, hunks in zip(parts[::2], parts[1::2], strict=True)
    }
    return {name: text for name, text in {**base, **changed}.items() if text}


def golden_objects(case: str) -> list[Object]:
    """The same, read."""
    return [yaml.load(text, Loader=yaml.CSafeLoader) for text in golden(case).values()]


def differences(manifests: Manifests) -> str:
    """What the golden file of a case that makes these objects holds: a unified diff for each object
    that is not as in the base, with lines counted from the object's first; of one that is missing,
    the name alone.
    """
    return "".join(_differences(golden(BASE), manifests))


def file_of(case: str) -> Path:
    """Where the golden file of a case is."""
    return FOLDER / f"{case}.{'yaml' if case == BASE else 'diff'}"


def _differences(base: Manifests, manifests: Manifests) -> Iterator[str]:
    for name in sorted(base.keys() | manifests.keys()):
        if name not in manifests:
            yield f"--- {name}\n+++ {_MISSING}\n"
            continue
        before, after = (of.get(name, "").splitlines(keepends=True) for of in (base, manifests))
        yield from difflib.unified_diff(before, after, name, name, n=_CONTEXT_LINES)


def _patched(text: str, hunks: str) -> str:
    before = text.splitlines(keepends=True)
    after: list[str] = []
    position = 0
    _, *parts = _HUNK.split(hunks)
    for first, count, hunk in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        # A hunk without lines of before stands behind the line that it names.
        begin = int(first) - (count != "0")
        lines = hunk.splitlines(keepends=True)
        replaced = [line[1:] for line in lines if line[0] != "+"]
        assert before[begin : begin + len(replaced)] == replaced, f"does not fit the base:\n{hunk}"
        after += before[position:begin]
        after += [line[1:] for line in lines if line[0] != "-"]
        position = begin + len(replaced)
    return "".join([*after, *before[position:]])


def _identity(manifest: str) -> str:
    found = (pattern.search(manifest) for pattern in (_KIND, _NAMESPACE, _NAME))
    return "/".join(match[1] for match in found if match)
