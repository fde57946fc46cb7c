"""Where parcels go: which countries there are, how their postal codes look, and how heavy a parcel
may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# ISO 3166-1 alpha-2, the officially assigned codes.
_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ "
    "BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM "
    "DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS "
    "GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN "
    "KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ "
    "MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV "
    "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI "
    "VN VU WF WS YE YT ZA ZM ZW"
)
COUNTRY_CODES = frozenset(_CODES.split())


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
    "US": _PostalForm(r"[0-9]{5}(?:-[0-9]{4})?", "10001"),
}


def expected_postal_code(country: str, postal_code: str) -> str | None:
    """An example of how a country's postal codes look, when this one looks otherwise; None when it
    looks right, or when any text does.
    """
    form = _POSTAL_FORMS.get(country)
    if form is None or re.fullmatch(form.pattern, postal_code.strip().upper(), re.ASCII):
        return None
    return form.example
