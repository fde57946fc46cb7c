"""docs/checkout.md names every step of the saga and only tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

from services.order.model import Step

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "docs" / "checkout.md").read_text(encoding="utf-8")


def test_every_step_has_its_row() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|", _TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(Step)


def test_every_test_that_it_names_exists() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in _ROOT.glob("tests/**/test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", _TEXT))
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_every_file_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", _TEXT)
    assert [link for link in links if not (_ROOT / "docs" / link).exists()] == []
