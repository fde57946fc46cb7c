"""A lab's hand-out: README.md in English, README.nl.md in Dutch. All have one form.

    # NN Title
    a table: minutes, lesson, scenario, read, watch
    ## Goal
    ## Predict
    ## Steps                    commands, and what they print
    ## What happened, and why
    ## Your turn                what to do, without commands
    ## Questions                each answer folded: <details>
    ## Clean up                 commands

A block of commands begins with ```sh, what they print with ```text. One that is for one place only
says so: ```sh istio. Commands whose block is followed by no ```text may print anything. What the
headings and the table's rows are called in each language is in :data:`FORMS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Language = Literal["en", "nl"]


class HandOutForm(NamedTuple):
    """How a hand-out in one language is named, and what its headings and its table's rows are
    called there.
    """

    file: str
    sections: Sequence[str]
    facts: Sequence[str]


FORMS: Mapping[Language, HandOutForm] = {
    "en": HandOutForm(
        "README.md",
        (
            "Goal",
            "Predict",
            "Steps",
            "What happened, and why",
            "Your turn",
            "Questions",
            "Clean up",
        ),
        ("minutes", "lesson", "scenario", "read", "watch"),
    ),
    "nl": HandOutForm(
        "README.nl.md",
        (
            "Doel",
            "Voorspel",
            "Stappen",
            "Wat er gebeurde, en waarom",
            "Nu jij",
            "Vragen",
            "Opruimen",
        ),
        ("minuten", "les", "scenario", "lees", "kijk"),
    ),
}

_TITLE = re.compile(r"# (\d\d) (.+)")
_FACT = re.compile(r"^\| (\w+) \| (.+) \|$", re.MULTILINE)
_FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# The port of this machine that leads to the gateway, in every README.md.
_FORWARDED = "127.0.0.1:8443"
_FORWARDING = re.compile(r"^kubectl -n \S+ port-forward service/\S+ 8443:443$", re.MULTILINE)


class NotInForm(ValueError):
    """A hand-out of another form; the message says what is wrong with it."""


class HandOutStep(NamedTuple):
    """Commands, and the lines that they print; None where these may be any."""

    commands: str
    sees: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Readme:
    """What a lab's hand-out says.

    :ivar facts: the table's rows, by their first cell in English.
    :ivar sections: the text of each, by its heading in English.
    """

    number: str
    title: str
    facts: Mapping[str, str]
    sections: Mapping[str, str]

    @property
    def minutes(self) -> int:
        """How long the lab takes."""
        return int(self.facts["minutes"])

    def steps(self, place: str) -> list[HandOutStep]:
        """What there is to type in a place."""
        return list(_steps(self.sections["Steps"], place))

    def clean_up(self, place: str) -> str:
        """What takes it back there."""
        return "".join(step.commands for step in _steps(self.sections["Clean up"], place))


def for_place(text: str, place: str) -> str:
    """A README.md without the commands that are for other places."""

    def chosen(fence: re.Match[str]) -> str:
        language, where, body = fence.groups()
        return f"```{language}\n{body}```" if where in {None, place} else ""

    return re.sub(r"\n{3,}", "\n\n", _FENCE.sub(chosen, text))


def at_gateway(text: str, address: str) -> str:
    """A README.md for somebody who forwards no port to the gateway, but reaches it at an address.

    :param address: ``192.0.2.7:443``; empty where a port is forwarded.
    """
    if not address:
        return text
    text = _FORWARDING.sub(f"# not here: the gateway is at {address}", text)
    return text.replace(_FORWARDED, address)


def read(path: Path, language: Language = "en") -> Readme:
    """Reads a hand-out.

    :raises NotInForm: it has another form.
    """
    form = FORMS[language]
    introduction, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {title: body for title, _, body in (part.partition("\n") for part in parts)}
    if tuple(sections) != form.sections:
        raise NotInForm(f"{path}: its headings are {list(sections)}")
    title = _TITLE.match(introduction)
    if title is None:
        raise NotInForm(f"{path}: its first line is no `# NN Title`")
    facts = {name: text for name, text in _FACT.findall(introduction) if name in form.facts}
    if tuple(facts) != form.facts or not next(iter(facts.values())).isdecimal():
        raise NotInForm(f"{path}: its table has {list(facts)}, not {list(form.facts)}")
    english = FORMS["en"]
    return Readme(
        title[1],
        title[2],
        dict(zip(english.facts, facts.values(), strict=True)),
        dict(zip(english.sections, sections.values(), strict=True)),
    )


def _steps(text: str, place: str) -> Iterator[HandOutStep]:
    blocks = [
        (language, body) for language, where, body in _FENCE.findall(text) if where in {"", place}
    ]
    for position, (language, body) in enumerate(blocks):
        if language == "sh":
            after = blocks[position + 1 : position + 2]
            is_told = bool(after) and after[0][0] == "text"
            yield HandOutStep(body, after[0][1].splitlines() if is_told else None)
