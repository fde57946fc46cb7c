"""Types of the text that people enter: of limited length, on one line, otherwise unchanged. Also
the forms of the ids of products and orders.

Nothing is escaped here: whoever shows the text escapes it. The types are used in request models and
in documents, because each accepts its own results unchanged. Their messages are for people: forms
show them beside the field.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from services.common.delivery import COUNTRIES, expected_postal_code
from services.common.errors import Kind, ShopError
from services.common.limits import (
    MAX_CITY_LENGTH,
    MAX_EMAIL_LENGTH,
    MAX_NAME_LENGTH,
    MAX_POSTAL_CODE_LENGTH,
    MAX_PRODUCT_IDS,
    MAX_STREET_LENGTH,
)

# The C0 and C1 control characters, and the two separators that also break a line.
_BREAKING = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_ANY_BREAKING = re.compile(f"[{_BREAKING}]")
# What nobody sees: zero-width spaces, and the characters that change the direction of the text
# around them (Unicode Standard Annex #9), with which a name could reorder a page or a mail. Joiners
# stay, since names are written with them.
_UNSEEN = r"\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
_ANY_UNSEEN = re.compile(f"[{_UNSEEN}]")
# The classes of Hebrew, Arabic and its digits.
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
# Letters and symbols that are drawn as nothing: Hangul fillers, and the empty Braille cell.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_ONE_LINE_PATTERN = rf"^[^{_BREAKING}]*[^\s{_BREAKING}][^{_BREAKING}]*$"
# What a reader of mail makes a link of: a scheme, or a dot with a top-level domain behind it. Names
# go into mails, and are no place for an address that invites to be followed.
_LINK = re.compile(r"://|\bmailto:|\bwww\.|[^\W_]\.[^\W\d_]{2,}", re.IGNORECASE)

# Order ids become ids of documents and names of fields in them: no dots, no dollar signs.
_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

# The ids of products and departments: words with hyphens between them.
MAX_SLUG_LENGTH = 64
SLUG = r"^[a-z0-9]+(?:-[a-z0-9]+)*$"
Slug = Annotated[str, StringConstraints(pattern=SLUG, max_length=MAX_SLUG_LENGTH)]
_SLUG = re.compile(SLUG)


@dataclass(frozen=True, slots=True)
class OneLine:
    """Text on one line: ``name: Annotated[str, OneLine(100)]``.

    Spaces around it and characters that nobody sees are dropped, as long as something is left; none
    is a control character. Of what people type now, something must be seen as well: `NewName`,
    `NewAddress`.
    """

    max_length: int

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(
            strip_whitespace=True, min_length=1, max_length=self.max_length
        )
        return core_schema.no_info_after_validator_function(_without_breaks, text)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": _ONE_LINE_PATTERN}


def normalised_email(text: str) -> str:
    """One spelling for each e-mail address: ASCII (IDNA for the domain) and in lower case.

    RFC 5321 leaves the case of the local part to the receiving host, but people do not. The DNS is
    not asked. The domains that RFC 2606 reserves for tests and examples are accepted, since a demo
    needs addresses that belong to nobody. A local part that needs SMTPUTF8 is not, since not every
    relay delivers to it.

    :raises ValueError: not an e-mail address; the message says why.
    """
    try:
        address = validate_email(
            text, check_deliverability=False, test_environment=True, allow_smtputf8=False
        )
    except EmailNotValidError as error:
        reason = str(error).rstrip(".")
        raise PydanticCustomError("email", "{reason}", {"reason": reason}) from error
    assert address.ascii_email is not None, "an address without SMTPUTF8 is ASCII"
    return address.ascii_email.lower()


def isolated(text: str) -> str:
    """Text that somebody typed in, for a sentence of plain text: it moves nothing around it.

    What is not written from left to right all through stands between isolates (Unicode Standard
    Annex #9). Of a text from before there were rules, characters that nobody sees are dropped, so
    that none of them ends the isolate. In HTML, ``<bdi>`` does the same.
    """
    seen = _ANY_UNSEEN.sub("", text)
    if any(unicodedata.bidirectional(one) in _RIGHT_TO_LEFT for one in seen):
        return f"\u2068{seen}\u2069"
    return seen


def is_slug(text: str) -> bool:
    """Whether a text can be the id of a product or a department."""
    return len(text) <= MAX_SLUG_LENGTH and _SLUG.fullmatch(text) is not None


def is_order_id(text: str) -> bool:
    """Whether a text can be the id of an order."""
    return _ORDER_ID.fullmatch(text) is not None


def checked_order_id(order_id: str) -> str:
    """The order id itself, when another service sends it.

    :raises ShopError: INVALID, when it has another form.
    """
    if not is_order_id(order_id):
        raise ShopError(
            Kind.INVALID, "invalid-order-id", "An order id is 1 to 64 letters, digits, _ or -."
        )
    return order_id


def check_product_count(product_ids: Sequence[str]) -> None:
    """Checks how many products one call asks for.

    :raises ShopError: INVALID, for more than MAX_PRODUCT_IDS.
    """
    if len(product_ids) > MAX_PRODUCT_IDS:
        raise ShopError(
            Kind.INVALID,
            "too-many-products",
            f"Ask for at most {MAX_PRODUCT_IDS} products at once.",
        )


def _without_breaks(text: str) -> str:
    if _ANY_BREAKING.search(text):
        raise PydanticCustomError("one_line", "Control characters and line breaks cannot be used")
    return _ANY_UNSEEN.sub("", text).strip() or text


def _with_something_seen(text: str) -> str:
    """The text itself, when it has a letter, a digit, a sign or a symbol that is drawn."""
    if not any(unicodedata.category(one)[0] in "LNPS" and one not in _BLANKS for one in text):
        raise PydanticCustomError("one_line", "At least one character that can be seen is needed")
    return text


def _without_links(text: str) -> str:
    # As it looks, so that full-width letters and other full stops are no way around.
    as_seen = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
    if _LINK.search(as_seen):
        raise PydanticCustomError(
            "link", "A name holds no web address: put a space after a full stop"
        )
    return text


def _country_code(text: str) -> str:
    code = text.strip()
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        raise PydanticCustomError(
            "country_code", "A country is given by the two letters of its ISO 3166-1 code"
        )
    return code.upper()


_SEEN = AfterValidator(_with_something_seen)

NewName = Annotated[str, OneLine(MAX_NAME_LENGTH), _SEEN, AfterValidator(_without_links)]
"""A person's name as it is given now. One that is stored already may be older than the rule."""


SERVED_COUNTRIES = f"ISO 3166-1 alpha-2, one of {', '.join(sorted(COUNTRIES))}"
"""What documentation says of a country that parcels go to."""


def served_country(code: str) -> str:
    """The country code itself, when the shop delivers there.

    :raises ValueError: it does not.
    """
    if code not in COUNTRIES:
        raise PydanticCustomError(
            "country",
            "We do not deliver to {country}, but to {served}",
            {"country": code, "served": ", ".join(sorted(COUNTRIES))},
        )
    return code


Email = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH, examples=["ada@example.com"]),
    AfterValidator(normalised_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": MAX_EMAIL_LENGTH}),
]

CountryCode = Annotated[
    str,
    Field(description="ISO 3166-1 alpha-2", examples=["NL"]),
    AfterValidator(_country_code),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z]{2}$"}),
]


ServedCountry = Annotated[
    CountryCode, Field(description=SERVED_COUNTRIES), AfterValidator(served_country)
]


class AddressFields(BaseModel):
    """Where a parcel goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, OneLine(MAX_NAME_LENGTH)] = Field(examples=["Ada Lovelace"])
    street: Annotated[str, OneLine(MAX_STREET_LENGTH)] = Field(examples=["Keizersgracht 123"])
    postal_code: Annotated[str, OneLine(MAX_POSTAL_CODE_LENGTH)] = Field(examples=["1015 CJ"])
    city: Annotated[str, OneLine(MAX_CITY_LENGTH)] = Field(examples=["Amsterdam"])
    country: CountryCode


class NewAddress(AddressFields):
    """An address that somebody types in: each line can be seen, the name is no web address, the
    shop delivers to the country, and the postal code looks like one.

    Addresses that are stored already are `AddressFields`: those from before these rules stay
    readable.
    """

    name: NewName = Field(examples=["Ada Lovelace"])
    street: Annotated[str, OneLine(MAX_STREET_LENGTH), _SEEN] = Field(
        examples=["Keizersgracht 123"]
    )
    postal_code: Annotated[str, OneLine(MAX_POSTAL_CODE_LENGTH), _SEEN] = Field(
        examples=["1015 CJ"]
    )
    city: Annotated[str, OneLine(MAX_CITY_LENGTH), _SEEN] = Field(examples=["Amsterdam"])
    country: ServedCountry

    @model_validator(mode="after")
    def _has_postal_code(self) -> Self:
        example = expected_postal_code(self.country, self.postal_code)
        if example is None:
            return self
        error = PydanticCustomError(
            "postal_code",
            "A postal code in {country} looks like {example}",
            {"country": self.country, "example": example},
        )
        details = InitErrorDetails(type=error, loc=("postal_code",), input=self.postal_code)
        raise ValidationError.from_exception_data(type(self).__name__, [details])

    def to_fields(self) -> AddressFields:
        """The address as it is stored."""
        return AddressFields(**self.model_dump())
