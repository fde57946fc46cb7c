"""What the documents name is there: files, headings, commands and tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)

_LINK = re.compile(r"\]\((?!https?://)([^)]+)\)|src=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _anchors(document: Path) -> set[str]:
    """Those of its headings, as the forges make them."""
    headings = _HEADING.findall(document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_link_into_the_repository_leads_somewhere(document: Path) -> None:
    links = [a or b for a, b in _LINK.findall(document.read_text(encoding="utf-8"))]
    for link in links:
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@each_document
def test_every_make_target_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*)[a-z -]*:", makefile, re.MULTILINE))
    assert not named - targets


@each_document
def test_every_test_exists(document: Path) -> None:
    """By its path, or by that below tests/mesh in the documents about the meshes."""
    named = re.findall(r"`([\w/]*test_\w+\.py)`", document.read_text(encoding="utf-8"))
    missing = [
        name
        for name in named
        if not (ROOT / name).is_file() and not (ROOT / "tests" / "mesh" / name).is_file()
    ]
    assert not missing
