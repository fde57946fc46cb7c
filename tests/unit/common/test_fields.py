"""The types of text that people type in."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.common.errors import ShopError
from services.common.fields import (
    AddressFields,
    CountryCode,
    Email,
    NewAddress,
    NewName,
    OneLine,
    checked_order_id,
    normalised_email,
)
from tests.testkit.customer import ADDRESS

FIVE: TypeAdapter[str] = TypeAdapter(Annotated[str, OneLine(5)])
NAME: TypeAdapter[str] = TypeAdapter(NewName)
EMAIL: TypeAdapter[str] = TypeAdapter(Email)
COUNTRY: TypeAdapter[str] = TypeAdapter(CountryCode)


def message(adapter: TypeAdapter[str], value: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(value)
    return refused.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("abc", "abc"), ("  abcde\t", "abcde"), ("<b>é", "<b>é"), ("日本語", "日本語")],
)
def test_a_line_is_kept_but_for_the_space_around_it(typed: str, kept: str) -> None:
    assert FIVE.validate_python(typed) == kept


@pytest.mark.parametrize("value", ["", "  ", "\u00a0", "abcdef", 5, None, "\ud800"])
def test_what_is_no_such_line_is_refused(value: object) -> None:
    assert message(FIVE, value).startswith(("String should have", "Input should be"))


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("Ada\u200b", "Ada"), ("\u202eAda\u202c", "Ada"), ("\u2066A\u2069 ", "A")],
)
def test_what_nobody_sees_is_dropped(typed: str, kept: str) -> None:
    assert FIVE.validate_python(typed) == kept


UNSEEN = [
    "\u200b",
    "\u2060\ufeff",
    "\u202e",
    "\u200d",
    "\u00ad \u200c",
    "\u3164",
    "\u115f",
    "\u2800",
    "\ufe0f",
    "\U000e0041",
]


@pytest.mark.parametrize("unseen", UNSEEN)
def test_a_new_line_of_what_nobody_sees_is_none(unseen: str) -> None:
    assert "can be seen" in message(NAME, unseen)
    for line in ("name", "street", "city"):
        with pytest.raises(ValidationError, match="can be seen"):
            NewAddress.model_validate({**ADDRESS, line: unseen})


@pytest.mark.parametrize("unseen", UNSEEN)
def test_one_that_is_stored_already_can_still_be_read(unseen: str) -> None:
    stored = AddressFields.model_validate({**ADDRESS, "street": unseen})
    assert AddressFields.model_validate(stored.model_dump()) == stored


@pytest.mark.parametrize(
    "name",
    [
        "You won! Claim at https://x.example",
        "www.example.com",
        "see example.com/win",
        "evil.com",
        "evil.com:8080",
        "evil.com?x=1",
        "mailto:eve",
        "http\uff1a//evil",
        "evil\uff0ecom",
        "evil\u3002com",
        "\u043f\u0440\u0438\u0437.\u0440\u0444",
    ],
)
def test_a_name_holds_no_link(name: str) -> None:
    assert "no web address" in message(NAME, name)
    with pytest.raises(ValidationError, match="no web address"):
        NewAddress.model_validate({**ADDRESS, "name": name})


@pytest.mark.parametrize("name", ["J.R.R. Tolkien", "Dr. Who", "Mary-Jane O'Neill / Smith"])
def test_a_name_may_have_dots_and_strokes(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize("breaking", ["\0", "\n", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"])
def test_control_characters_and_line_breaks_are_refused(breaking: str) -> None:
    assert "Control characters" in message(FIVE, f"a{breaking}b")


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("ada+shop@sub.example.org", "ada+shop@sub.example.org"),
        ("ada@shop.test", "ada@shop.test"),
        ("ada@shop.example", "ada@shop.example"),
        ("ada@MÜNCHEN.example", "ada@xn--mnchen-3ya.example"),
    ],
)
def test_an_address_has_one_spelling(typed: str, spelled: str) -> None:
    assert EMAIL.validate_python(typed) == spelled
    assert EMAIL.validate_python(spelled) == spelled


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@localhost",
        "ada@shop.local",
        "ada@shop.invalid",
        "ada lovelace@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@exam\0ple.com",
        '"<script>"@example.com',
        "ada@[127.0.0.1]",
        "ädä@example.com",
        f"{'a' * 250}@example.com",
        "\ud800@example.com",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    assert not message(EMAIL, typed).startswith("Value error")


@given(st.text() | st.emails() | st.builds("{}@{}".format, st.text(), st.text()))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        spelled = normalised_email(text)
    except ValueError:
        return
    assert spelled.isascii()
    assert spelled.isprintable()
    assert normalised_email(spelled) == spelled


@pytest.mark.parametrize("typed", ["NL", "nl", " nL "])
def test_a_country_is_spelled_in_capitals(typed: str) -> None:
    assert COUNTRY.validate_python(typed) == "NL"


@pytest.mark.parametrize("typed", ["", "N", "NLD", "1A", "ß", "ñl", "N\0"])
def test_what_is_no_country_code_is_refused(typed: str) -> None:
    assert "two letters" in message(COUNTRY, typed)


def test_an_address_takes_nothing_but_its_fields() -> None:
    address = AddressFields(
        name="Ada", street="Street 1", postal_code="1015", city="Amsterdam", country="nl"
    )
    assert AddressFields.model_validate(address.model_dump()) == address
    with pytest.raises(ValidationError):
        AddressFields.model_validate({**address.model_dump(), "id": "adr_x"})


@pytest.mark.parametrize(
    ("country", "postal_code"),
    [
        *(("NL", code) for code in ("1015 CJ", "1015CJ", "1015 cj")),
        *(("BE", "1000"), ("DE", "70173"), ("LU", "1111"), ("LU", "L-1111"), ("FR", "75001")),
        *(("PT", "1100-148"), ("SE", "111 29"), ("SE", "11129")),
        *(("IE", "D02 X285"), ("GB", "SW1A 1AA"), ("nl", "1015 CJ")),
    ],
)
def test_a_postal_code_of_its_country_is_taken(country: str, postal_code: str) -> None:
    address = NewAddress(
        name="Ada", street="Street 1", postal_code=postal_code, city="A", country=country
    )
    assert address.to_fields().postal_code == postal_code


@pytest.mark.parametrize(
    ("country", "postal_code", "example"),
    [
        ("NL", "99999999", "1015 CJ"),
        ("NL", "1015", "1015 CJ"),
        ("NL", "0015 CJ", "1015 CJ"),
        ("NL", "\u0661\u0660\u0661\u0665 CJ", "1015 CJ"),
        ("NL", "1015 CJ1", "1015 CJ"),
        ("BE", "10000", "1000"),
        ("DE", "7017", "10115"),
        ("LU", "75001", "1111"),
        ("FR", "75 001", "75001"),
        ("PT", "1100148", "1100-148"),
    ],
)
def test_another_postal_code_is_refused_with_an_example(
    country: str, postal_code: str, example: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        NewAddress(name="Ada", street="S 1", postal_code=postal_code, city="A", country=country)
    [error] = raised.value.errors()
    assert error["loc"] == ("postal_code",)
    assert error["msg"] == f"A postal code in {country} looks like {example}"
    # One that is stored already stays readable.
    AddressFields(name="Ada", street="S 1", postal_code=postal_code, city="A", country=country)


@pytest.mark.parametrize("country", ["ZZ", "UK", "zz", "US", "KP"])
def test_the_shop_delivers_to_the_country(country: str) -> None:
    with pytest.raises(ValidationError) as raised:
        NewAddress(name="Ada", street="S 1", postal_code="1", city="A", country=country)
    [error] = raised.value.errors()
    assert error["loc"] == ("country",)
    assert error["msg"].startswith(f"We do not deliver to {country.upper()}, but to AT, BE")
    # One that is stored already stays readable.
    AddressFields(name="Ada", street="S 1", postal_code="1", city="A", country=country)


@pytest.mark.parametrize("order_id", ["", "a.b", "$where", "a b", "ä", "x" * 65, "a\n", "a\0"])
def test_an_order_id_that_cannot_be_a_field_name_is_invalid(order_id: str) -> None:
    with pytest.raises(ShopError) as raised:
        checked_order_id(order_id)
    assert raised.value.code == "invalid-order-id"


def test_an_order_id_may_be_a_uuid() -> None:
    order_id = "0f7c7c1e-8d6b-4c39-9c55-0c2f9b7f6a11"
    assert checked_order_id(order_id) == order_id
