"""The language of the templates: Jinja2 with the shop's filters, and all templates compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any
from urllib.parse import urlencode

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from services.common.fields import isolated
from services.frontend.mesh_page.mesh_map import percentage, rate, sparkline

_FOLDER = Path(__file__).parent / "templates"
# A card is made again when its product's stock changes. A thousand take about a megabyte.
_KEPT_CARDS = 1024
_KEPT_ICONS = 64


def environment(**known: Any) -> Environment:
    """What renders the templates.

    :param known: what every template knows, beside what it is given.
    """
    made = _environment(_TEMPLATES)
    functions: dict[str, Any] = {
        "card": _kept(made, "card.html", "card", _KEPT_CARDS),
        "icon": _kept(made, "icons.html", "icon", _KEPT_ICONS),
        "mark": _mark,
    }
    made.globals.update({**known, **functions})
    return made


def _kept(
    environment: Environment, template: str, macro: str, how_many: int
) -> Callable[..., Markup]:
    """A template's macro whose results are kept: those that were wanted last, by its arguments."""

    @lru_cache(how_many)
    def made(*arguments: object) -> Markup:
        return getattr(environment.get_template(template).module, macro)(*arguments)

    return made


class _Compiled(BaseLoader):
    """Serves templates from memory: no page reads a file."""

    def __init__(self, folder: Path) -> None:
        files = FileSystemLoader(folder)
        compiling = _environment(files)
        self._code: dict[str, CodeType] = {}
        for name in files.list_templates():
            source, file, _ = files.get_source(compiling, name)
            self._code[name] = compiling.compile(source, name, file)

    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002  as Jinja2 calls it
    ) -> Template:
        """The template of that name, which has to exist."""
        # Each page copies the globals; of Jinja2's ChainMap that takes ten times as long.
        return Template.from_code(environment, self._code[name], dict(globals or {}))


def _environment(loader: BaseLoader) -> Environment:
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: dict[str, Any] = {
        "ago": _ago,
        "day": _day,
        "isolated": isolated,
        "moment": _moment,
        "kilograms": _kilograms,
        "milliseconds": _milliseconds,
        "percentage": percentage,
        "query": _query,
        "rate": rate,
        "stamp": _stamp,
        "sparkline": sparkline,
        "words": _words,
    }
    tests: dict[str, Any] = {"preview": _is_preview}
    made.filters.update(filters)
    made.tests.update(tests)
    return made


def _mark(path: str, here: str) -> Markup:
    """The attribute of a link to a path, for who is there or below it."""
    if here == path:
        return Markup(' aria-current="page"')
    is_below = path != "/" and here.startswith(f"{path}/")
    return Markup(' aria-current="true"') if is_below else Markup()


def _is_preview(version: str) -> bool:
    """Whether a version of the catalogue is the one that the preview leads to."""
    return version.startswith("v2")


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _moment(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _ago(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0.0, seconds):.0f} s ago"
    minutes = int(seconds // 60)
    return f"{minutes} min ago" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min ago"


def _stamp(unix_seconds: float) -> str:
    at = datetime.fromtimestamp(unix_seconds, UTC)
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _kilograms(grams: int) -> str:
    """A weight in tenths of a kilogram, rounded up: what is over a limit never looks as if it met
    it.
    """
    tenths = -(-grams // 100)
    return f"{tenths // 10}.{tenths % 10} kg" if tenths % 10 else f"{tenths // 10} kg"


def _query(values: Mapping[str, str]) -> str:
    """The query of a link, without empty values."""
    return urlencode({name: value for name, value in values.items() if value})


def _words(slug: str) -> str:
    """A slug for people: ``in-transit`` becomes ``In transit``."""
    text = slug.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]


# Compiled at import, not when the service starts: on one machine that is before the fork, which
# spares the frontend's process a quarter of its memory.
_TEMPLATES = _Compiled(_FOLDER)
