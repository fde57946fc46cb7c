"""A lab's hand-out: README.md in English, README.nl.md in Dutch. All have one form.

    # NN Title
    a table: minutes, lesson, scenario, read, watch
    ## Goal
    ## Predict
    ## Steps                    commands, and what they print
    ## Your turn                the task, and the check; no commands that solve it
    ## What happened, and why   read after the task, since it gives answers away
    ## Questions                each answer folded: <details>
    ## Clean up                 commands

A block of commands begins with ```sh, what they print with ```text. One that is for one place only
says so: ```sh istio. A paragraph for one kind of place begins with `On this machine` or `In a
cluster`. Commands whose block is followed by no ```text may print anything. What the
headings and the table's rows are called in each language is in :data:`FORMS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
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
            "Your turn",
            "What happened, and why",
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
            "Nu jij",
            "Wat er gebeurde, en waarom",
            "Vragen",
            "Opruimen",
        ),
        ("minuten", "les", "scenario", "lees", "kijk"),
    ),
}

_TITLE = re.compile(r"# (\d\d) (.+)")
_FACT = re.compile(r"^\| (\w+) \| (.+) \|$", re.MULTILINE)
_FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# A block, or a paragraph, table or list.
_PART = re.compile(r"^```[\s\S]*?^```$|(?:^(?!```).+\n?)+", re.MULTILINE)
# How a paragraph for one kind of place begins, if not all places have it.
_LOCAL = ("On this machine", "Op deze machine")
_MESHED = ("In a cluster", "In een cluster")

_QUESTION = re.compile(r"<details><summary>(.+?)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
_TAG = re.compile(r"</?(?:code|em)>")
_ANSWERS: Mapping[Language, str] = {"en": "Answers", "nl": "Antwoorden"}
_IN_BROWSER: Mapping[Language, str] = {
    "en": "In a browser, the shop is `https://ecommerce.example.com:{port}` and the mesh page "
    "`https://ecommerce.example.com:{port}/mesh`,\nonce `/etc/hosts` has the line "
    "`{host} ecommerce.example.com`. Accept its certificate.\n\n",
    "nl": "In een browser is de winkel `https://ecommerce.example.com:{port}` en de mesh-pagina "
    "`https://ecommerce.example.com:{port}/mesh`,\nzodra in `/etc/hosts` de regel "
    "`{host} ecommerce.example.com` staat. Accepteer het certificaat.\n\n",
}

# The port of this machine that leads to the gateway, in every README.md.
_FORWARDED = "127.0.0.1:8443"
# What introduces the command ends with a colon.
_FORWARDING = re.compile(
    r"(?:^.+\n)*^.+:\n\n```sh\nkubectl -n \S+ port-forward service/\S+ 8443:443\n```\n\n",
    re.MULTILINE,
)


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
    """A hand-out without what is for other places: their blocks, the paragraphs that end with a
    colon before nothing but such blocks, and those that begin with the words for another place.
    """
    others = _MESHED if place == "local" else _LOCAL
    parts = [part.strip("\n") for part in _PART.findall(text)]
    kept: list[str] = []
    for position, part in enumerate(parts):
        if _FENCE.fullmatch(part):
            kept += _chosen([part], place)
        elif not part.startswith(others):
            blocks = list(takewhile(_FENCE.fullmatch, parts[position + 1 :]))
            introduces_none = part.endswith(":") and blocks and not _chosen(blocks, place)
            kept += [] if introduces_none else [part]
    return "\n\n".join(kept) + "\n"


def _chosen(blocks: Sequence[str], place: str) -> list[str]:
    """Those of some blocks that are for a place, without its name."""
    fences = [fence for block in blocks for fence in _FENCE.findall(block)]
    return [f"```{language}\n{body}```" for language, where, body in fences if where in {"", place}]


def at_gateway(text: str, address: str) -> str:
    """A README.md for somebody who forwards no port to the gateway, but reaches it at an address.

    :param address: ``192.0.2.7:443``; empty where a port is forwarded.
    """
    if not address:
        return text
    text = _FORWARDING.sub("", text)
    return text.replace(_FORWARDED, address)


def with_browser(text: str, address: str, language: Language) -> str:
    """A hand-out that also says how to open the shop in a browser.

    :param address: as for `at_gateway`.
    """
    host, _, port = (address or _FORWARDED).rpartition(":")
    commands = text.index("## ")
    return f"{text[:commands]}{_IN_BROWSER[language].format(host=host, port=port)}{text[commands:]}"


def answers_last(text: str, language: Language) -> str:
    """A hand-out for a terminal, which folds nothing: the answers to its questions at the end."""
    answers: list[str] = []

    def question(found: re.Match[str]) -> str:
        asked, answer = found.groups()
        answers.append(f"{len(answers) + 1}. {answer.strip()}\n")
        return f"{len(answers)}. {_TAG.sub('`', asked)}"

    text = _QUESTION.sub(question, text)
    return f"{text}\n## {_ANSWERS[language]}\n\n" + "\n".join(answers)


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
