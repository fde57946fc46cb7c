"""Reads the stock that the shop starts with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from services.common.errors import ConfigurationError
from services.common.fields import Slug
from services.common.validation import first_wrong

_SEED = TypeAdapter(dict[Slug, Annotated[int, Field(ge=0, le=1_000_000, strict=True)]])


def read_stock_file(path: Path) -> dict[str, int]:
    """The initial stock by product id.

    :raises ConfigurationError: the file is missing, is no YAML, or has something else in it.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigurationError(
            f"The stock file {path} cannot be read: {error.strerror}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"The stock file {path} is not valid YAML: {reason}.") from error
    try:
        return _SEED.validate_python(raw)
    except ValidationError as error:
        wrong = first_wrong(error)
        raise ConfigurationError(
            f"The stock file {path} is wrong at {wrong.place('the top')}: {wrong.reason}."
        ) from error
