"""The files of the load test, `journeys.yaml` and `thresholds.yaml`, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

FOLDER = Path(__file__).parent
JOURNEYS = FOLDER / "journeys.yaml"
THRESHOLDS = FOLDER / "thresholds.yaml"

_Weight = Annotated[int, Field(ge=0)]
_Count = Annotated[int, Field(ge=0)]
_Milliseconds = Annotated[int, Field(ge=1)]


class BadFile(Exception):
    """A file cannot be used; the message is a sentence that says what to change."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShopperKind(_Section):
    """One kind of shopper: their share of all, the time that they think, and their journeys."""

    weight: _Weight
    think_seconds: float = Field(ge=0)
    journeys: dict[str, _Weight]

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not any(self.journeys.values()):
            raise ValueError("at least one journey needs a weight above 0")
        return self


class Journeys(RootModel[dict[str, ShopperKind]]):
    """All kinds of shoppers, by name."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _has_shoppers(self) -> Self:
        if not any(kind.weight for kind in self.root.values()):
            raise ValueError("at least one kind of shopper needs a weight above 0")
        return self

    def check_against(self, known: Mapping[str, Sequence[str]], path: Path) -> None:
        """Compares the names of the file with those that exist.

        :param known: the journeys of each kind of shopper.
        :raises BadFile: the file has a kind or a journey that does not exist, or lacks a kind.
        """
        for name in [*self.root, *known]:
            if name not in known:
                raise BadFile(f"{path}: there is no {name!r}; there are {_listed(known)}.")
            if name not in self.root:
                raise BadFile(f"{path}: {name!r} is missing; weight: 0 leaves it out.")
            for journey in self.root[name].journeys:
                if journey not in known[name]:
                    raise BadFile(
                        f"{path}: {name} has no journey {journey!r}; it has {_listed(known[name])}."
                    )


class RequestLimits(_Section):
    """The minimum of requests."""

    min: _Count = 0


class FailureLimits(_Section):
    """The highest share of requests that fail."""

    max_ratio: float = Field(default=0, ge=0, le=1)


class PurchaseLimits(_Section):
    """The limits of checkouts."""

    min_confirmed: _Count = 0
    max_failed: _Count = 0
    books_balanced: bool = True


class ArrivalLimits(_Section):
    """The limits of arrivals."""

    max_turned_away: _Count = 0
    max_unfinished: _Count = 0
    max_late_ms: _Milliseconds | None = None


class TimeLimits(_Section):
    """The limits of a group's response times, in milliseconds."""

    p50_ms: _Milliseconds | None = None
    p95_ms: _Milliseconds | None = None
    p99_ms: _Milliseconds | None = None


class Limits(_Section):
    """The thresholds of a run."""

    requests: RequestLimits = RequestLimits()
    failures: FailureLimits = FailureLimits()
    purchases: PurchaseLimits = PurchaseLimits()
    arrivals: ArrivalLimits = ArrivalLimits()
    groups: dict[str, TimeLimits]


_Model = TypeVar("_Model", bound=BaseModel)


def read_journeys(path: Path = JOURNEYS) -> Journeys:
    """Returns the kinds of shoppers of a file.

    :raises BadFile: the file cannot be read, or has a mistake.
    """
    return _checked(Journeys, _loaded(path), path)


def read_limits(path: Path = THRESHOLDS, changes: Sequence[str] = ()) -> Limits:
    """Returns the thresholds of a file.

    :param changes: values that replace those of the file, as ``pages.p95_ms=800``; the first word
        is a section or a group.
    :raises BadFile: the file cannot be read, or it or a change has a mistake.
    """
    content = _loaded(path)
    if not isinstance(content, dict):
        raise BadFile(f"{path}: this is no file of thresholds.")
    for change in changes:
        _change(cast("dict[str, Any]", content), change)
    return _checked(Limits, content, path)


def _change(content: dict[str, Any], change: str) -> None:
    name, is_given, value = change.partition("=")
    section, is_dotted, key = name.partition(".")
    if not (is_given and is_dotted):
        raise BadFile(f"--threshold {change}: write it as pages.p95_ms=800.")
    groups: dict[str, Any] = content.get("groups", {})
    parent = content if section in Limits.model_fields else groups
    if section not in parent:
        raise BadFile(
            f"--threshold {change}: there is no {section!r}; "
            f"there are {_listed([*Limits.model_fields, *groups])}."
        )
    parent[section] = {**(parent[section] or {}), key: yaml.safe_load(value)}


def _loaded(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(f"{path}: the file cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise BadFile(f"{path}: this is not YAML: {' '.join(str(error).split())}.") from error


def _checked(model: type[_Model], content: Any, path: Path) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(each) for each in first["loc"]) or "the file"
        said = first["msg"].removeprefix("Value error, ")
        raise BadFile(f"{path}: {place}: {said[:1].lower()}{said[1:]}.") from error


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)
