"""The Dutch hand-outs say what the English ones say: the same commands, questions and minutes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from labs.lab import LABS, Lab, all_labs
from labs.readme import FORMS, NotInForm, read

ALL = all_labs()
FOLDERS = [LABS, *(lab.folder for lab in ALL)]

_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) .+$", re.MULTILINE)
_ROW_OR_ITEM = re.compile(r"^\s*(\||\d+\. |- )", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`|<code>(.*?)</code>", re.DOTALL)
_LINK = re.compile(r"\]\(([^)]+)\)|<(https?://[^>]+)>")
_MINUTES = re.compile(r"^\| (?:minutes|minuten) \| (.+) \|$", re.MULTILINE)


class Outline(NamedTuple):
    """What does not depend on the language.

    :ivar headings: the levels.
    :ivar blocks: fence, commands or output, fence.
    :ivar rows_and_items: under each heading, those of tables and lists.
    :ivar code: under each heading, what stands in the text as code, each once.
    :ivar links: their targets, as from the English text.
    """

    headings: Sequence[str]
    blocks: Sequence[str]
    questions: int
    minutes: Sequence[str]
    rows_and_items: Sequence[Sequence[str]]
    code: Sequence[Sequence[str]]
    links: Sequence[str]


def outline(text: str) -> Outline:
    prose = _BLOCK.sub("", text)
    english, dutch = FORMS["en"].file, FORMS["nl"].file
    sections = _HEADING.split(prose)[2::2]
    return Outline(
        headings=_HEADING.findall(prose),
        blocks=_BLOCK.findall(text),
        questions=text.count("<details><summary>"),
        minutes=_MINUTES.findall(text),
        rows_and_items=[_ROW_OR_ITEM.findall(section) for section in sections],
        code=[_once(_CODE.findall(section)) for section in sections],
        links=sorted(
            (inner or outer).replace(dutch, english) for inner, outer in _LINK.findall(prose)
        ),
    )


def differences(english: str, dutch: str) -> Mapping[str, tuple[object, object]]:
    """Where the second text is another one than the first, by the outline's fields."""
    pairs = zip(Outline._fields, outline(english), outline(dutch), strict=True)
    return {name: (one, other) for name, one, other in pairs if one != other}


def _once(found: Sequence[tuple[str, str]]) -> list[str]:
    return sorted({" ".join((inner or outer).split()) for inner, outer in found})


def named(value: object) -> str:
    return value.name if isinstance(value, Lab | Path) else str(value)


def in_both(folder: Path) -> tuple[str, str]:
    english, dutch = ((folder / form.file).read_text(encoding="utf-8") for form in FORMS.values())
    return english, dutch


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_both_languages_say_the_same(folder: Path) -> None:
    assert differences(*in_both(folder)) == {}


@pytest.mark.parametrize("lab", ALL, ids=named)
def test_the_dutch_one_is_read_like_the_english_one(lab: Lab) -> None:
    dutch = read(lab.folder / FORMS["nl"].file, "nl")

    assert (dutch.number, dutch.minutes) == (lab.number, lab.readme.minutes)
    assert list(dutch.sections) == list(lab.readme.sections)
    for place in lab.places:
        assert dutch.steps(place) == lab.readme.steps(place)
        assert dutch.clean_up(place) == lab.readme.clean_up(place)


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_dutch_leads_to_dutch(folder: Path) -> None:
    """A link to a hand-out is one to the hand-out in the same language."""
    _, dutch = in_both(folder)
    for inner, _ in _LINK.findall(dutch):
        target = folder / inner.partition("#")[0]
        if "://" in inner or target == folder / FORMS["en"].file:  # the text in the other language
            continue
        if target.name == FORMS["en"].file:
            assert not (target.parent / FORMS["nl"].file).exists(), inner


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("for request in 1 2 3;", "for request in 1 2;", "blocks"),
        ('"state":"confirmed"', '"state":"bevestigd"', "blocks"),
        ("```sh\n.venv", "```sh istio\n.venv", "blocks"),
        ("</details>\n\n<details>", "</details>\n\n<div>", "questions"),
        ("| minuten | 15 |", "| minuten | 20 |", "minutes"),
        ("## Nu jij", "### Nu jij", "headings"),
        ("\n3. ", "\n", "rows_and_items"),
        ("`kill -9`", "`kill -15`", "code"),
        ("(../../docs/checkout.md)", "(../../docs/backup.md)", "links"),
    ],
)
def test_a_difference_is_found(old: str, new: str, differs: str) -> None:
    english, dutch = in_both(LABS / "00-pay-once")
    assert old in dutch

    assert list(differences(english, dutch.replace(old, new, 1))) == [differs]


def test_a_dutch_text_with_english_headings_is_refused() -> None:
    with pytest.raises(NotInForm, match="its headings are"):
        read(LABS / "00-pay-once/README.md", "nl")
