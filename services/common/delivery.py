"""Delivery of parcels: the countries, the form of their postal codes, and the largest weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Where the shop delivers to, by ISO 3166-1 alpha-2: the neighbours first, as pages list them.
COUNTRIES: Mapping[str, str] = {
    "NL": "Netherlands",
    "BE": "Belgium",
    "DE": "Germany",
    "LU": "Luxembourg",
    "AT": "Austria",
    "BG": "Bulgaria",
    "HR": "Croatia",
    "CY": "Cyprus",
    "CZ": "Czechia",
    "DK": "Denmark",
    "EE": "Estonia",
    "FI": "Finland",
    "FR": "France",
    "GR": "Greece",
    "HU": "Hungary",
    "IS": "Iceland",
    "IE": "Ireland",
    "IT": "Italy",
    "LV": "Latvia",
    "LI": "Liechtenstein",
    "LT": "Lithuania",
    "MT": "Malta",
    "NO": "Norway",
    "PL": "Poland",
    "PT": "Portugal",
    "RO": "Romania",
    "SK": "Slovakia",
    "SI": "Slovenia",
    "ES": "Spain",
    "SE": "Sweden",
    "CH": "Switzerland",
    "GB": "United Kingdom",
}


@dataclass(frozen=True, slots=True)
class _PostalForm:
    pattern: str
    example: str


# What the shop's carriers take.
MAX_PARCEL_GRAMS = 100_000

_FOUR_DIGITS = r"[0-9]{4}"
_FIVE_DIGITS = r"[0-9]{5}"

# Those of the countries around that have a simple form; any text is taken for the others.
_POSTAL_FORMS: Mapping[str, _PostalForm] = {
    "AT": _PostalForm(r"[1-9][0-9]{3}", "1010"),
    "BE": _PostalForm(r"[1-9][0-9]{3}", "1000"),
    "CH": _PostalForm(r"[1-9][0-9]{3}", "8001"),
    "DE": _PostalForm(_FIVE_DIGITS, "10115"),
    "DK": _PostalForm(_FOUR_DIGITS, "1050"),
    "ES": _PostalForm(_FIVE_DIGITS, "28013"),
    "FI": _PostalForm(_FIVE_DIGITS, "00100"),
    "FR": _PostalForm(_FIVE_DIGITS, "75001"),
    "IT": _PostalForm(_FIVE_DIGITS, "00184"),
    "LU": _PostalForm(r"(?:L-)?[0-9]{4}", "1111"),
    "NL": _PostalForm(r"[1-9][0-9]{3} ?[A-Z]{2}", "1015 CJ"),
    "NO": _PostalForm(_FOUR_DIGITS, "0150"),
    "PL": _PostalForm(r"[0-9]{2}-[0-9]{3}", "00-001"),
    "PT": _PostalForm(r"[0-9]{4}-[0-9]{3}", "1100-148"),
    "SE": _PostalForm(r"[0-9]{3} ?[0-9]{2}", "111 29"),
}


def expected_postal_code(country: str, postal_code: str) -> str | None:
    """An example of how a country's postal codes look, when this one looks otherwise; None when it
    looks right, or when any text does.
    """
    form = _POSTAL_FORMS.get(country)
    if form is None or re.fullmatch(form.pattern, postal_code.strip().upper(), re.ASCII):
        return None
    return form.example
