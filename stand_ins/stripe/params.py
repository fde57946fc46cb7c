"""Request parameters: Stripe's bracket notation, read and checked by name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from stand_ins.stripe.errors import invalid

MAX_PARAMETERS = 200
MAX_METADATA = 50  # docs.stripe.com/metadata: 50 keys of 40 characters, values of 500
METADATA_KEY_LENGTH = 40
METADATA_VALUE_LENGTH = 500
MAX_AMOUNT_DIGITS = 15

_NAME = re.compile(r"([a-z_]+)((?:\[[^\[\]]*\])*)")
_INTEGER = re.compile(rf"-?[0-9]{{1,{MAX_AMOUNT_DIGITS}}}")

Path = tuple[str, ...]


class Params:
    """The parameters of one request, taken out by name; `finish` refuses those that nobody took.

    Every method raises a 400 `StripeError` for a value that is not what it asks for.
    """

    def __init__(self, encoded: bytes) -> None:
        self._values = _parse(encoded)
        self._taken: set[Path] = set()

    def fingerprint(self) -> str:
        """Equal for two requests with the same parameters, in whichever order."""
        canonical = json.dumps(sorted(self._values)).encode()
        return hashlib.sha256(canonical).hexdigest()

    def text(self, *path: str, max_length: int = 500) -> str | None:
        """The last value under a name, as Stripe takes it; None when there is none."""
        values = [value for name, value in self._values if name == path]
        self._taken.add(path)
        if not values:
            return None
        name = _bracketed(path)
        if not values[-1]:
            raise invalid(
                f"You passed an empty string for '{name}'. We assume empty values are an attempt "
                f"to unset a parameter; however '{name}' cannot be unset.",
                code="parameter_invalid_empty",
                param=name,
            )
        if len(values[-1]) > max_length:
            raise invalid(
                f"Invalid string: it must be at most {max_length} characters.",
                code="parameter_invalid_string_too_long",
                param=name,
            )
        return values[-1]

    def required_text(self, *path: str) -> str:
        value = self.text(*path)
        if value is None:
            raise _missing(path)
        return value

    def positive(self, *path: str) -> int | None:
        """A whole number of at least 1."""
        value = self.text(*path)
        if value is None:
            return None
        name = _bracketed(path)
        if not _INTEGER.fullmatch(value):
            raise invalid(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
        if int(value) < 1:
            raise invalid(
                "This value must be greater than or equal to 1.",
                code="parameter_invalid_integer",
                param=name,
            )
        return int(value)

    def required_positive(self, *path: str) -> int:
        value = self.positive(*path)
        if value is None:
            raise _missing(path)
        return value

    def flag(self, *path: str) -> bool | None:
        value = self.text(*path)
        if value is None:
            return None
        if value not in ("true", "false"):
            raise invalid(f"Invalid boolean: {value}", param=_bracketed(path))
        return value == "true"

    def choice(self, *path: str, among: Collection[str]) -> str | None:
        value = self.text(*path)
        if value is not None and value not in among:
            name = _bracketed(path)
            raise invalid(f"Invalid {name}: must be one of {', '.join(among)}", param=name)
        return value

    def texts(self, name: str) -> list[str]:
        """An array: ``name[]=…`` or ``name[0]=…``."""
        found = [(path, value) for path, value in self._values if path[0] == name]
        for path, _ in found:
            if len(path) != 2 or not (path[1] == "" or path[1].isdecimal()):
                raise invalid("Invalid array", param=name)
            self._taken.add(path)
        return [value for _, value in found]

    def metadata(self) -> dict[str, str]:
        """``metadata[key]=value``; an empty value leaves the key out."""
        return self.updated_metadata({})

    def updated_metadata(self, current: Mapping[str, str]) -> dict[str, str]:
        """The metadata after an update: an empty value unsets its key, an empty ``metadata`` all
        (docs.stripe.com/api/metadata).
        """
        pairs = dict(current)
        for path, value in self._values:
            if path[0] != "metadata":
                continue
            self._taken.add(path)
            if path == ("metadata",) and not value:
                pairs.clear()
                continue
            if len(path) != 2:
                raise invalid("Invalid object", param="metadata")
            if not 1 <= len(path[1]) <= METADATA_KEY_LENGTH:
                raise invalid(
                    f"Metadata keys must have 1 to {METADATA_KEY_LENGTH} characters.",
                    param="metadata",
                )
            if len(value) > METADATA_VALUE_LENGTH:
                raise invalid(
                    f"Metadata values can have up to {METADATA_VALUE_LENGTH} characters.",
                    param=_bracketed(path),
                )
            pairs[path[1]] = value
        pairs = {key: value for key, value in pairs.items() if value}
        if len(pairs) > MAX_METADATA:
            raise invalid(f"Metadata can have up to {MAX_METADATA} keys.", param="metadata")
        return pairs

    def finish(self) -> None:
        """Refuses a request with parameters that nobody asked for."""
        unknown = [_bracketed(path) for path, _ in self._values if path not in self._taken]
        if unknown:
            some = "parameters" if len(unknown) > 1 else "parameter"
            raise invalid(
                f"Received unknown {some}: {', '.join(unknown)}",
                code="parameter_unknown",
                param=unknown[0],
            )


def _parse(encoded: bytes) -> list[tuple[Path, str]]:
    try:
        pairs = parse_qsl(
            encoded.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(encoded),
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:  # not ASCII, not UTF-8 inside, not name=value, or too many
        raise invalid("Invalid request: the parameters are not form-encoded.") from error
    values: list[tuple[Path, str]] = []
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        if match is None or "\x00" in name + value:
            raise invalid(
                f"Received unknown parameter: {name}", code="parameter_unknown", param=name
            )
        head, brackets = match.groups()
        values.append(((head, *brackets[1:-1].split("][")) if brackets else (head,), value))
    return values


def _bracketed(path: Path) -> str:
    return path[0] + "".join(f"[{part}]" for part in path[1:])


def _missing(path: Path) -> Exception:
    name = _bracketed(path)
    return invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
