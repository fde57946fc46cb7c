"""Forms as they arrive: bounded text fields, checked to come from this visitor's own page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError

from services.common import limits
from services.common.delivery import COUNTRIES, expected_postal_code
from services.common.errors import ShopError
from services.common.fields import NewAddress, NewName, is_slug, normalised_email
from services.common.validation import first_wrong
from services.frontend.model import MAX_QUANTITY, CartRefused, PostalAddress
from services.frontend.security import check_form
from services.frontend.visit import VisitDependency

_MAX_FIELDS = 40
_MAX_TEXT_LENGTH = 20_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
ADDRESS_FIELDS = ("name", "street", "postal_code", "city", "country")
_PERSON: TypeAdapter[str] = TypeAdapter(NewName)


@dataclass(slots=True)
class Form:
    """The fields of a form, and what is wrong with them."""

    values: Mapping[str, str]
    errors: dict[str, str] = field(default_factory=dict[str, str])

    def raw(self, name: str) -> str:
        """A field as it was typed; empty when it is missing."""
        return self.values.get(name, "")

    def text(self, name: str, label: str, max_length: int, *, required: bool = True) -> str:
        """A line of text, without spaces around it. What is wrong with it goes to `errors`."""
        value = self.raw(name).strip()
        if not value and required:
            self.errors[name] = f"Enter {label}."
        elif len(value) > max_length:
            self.errors[name] = f"Use at most {max_length} characters for {label}."
        elif _CONTROL.search(value):
            self.errors[name] = "Remove the invisible characters."
        return value

    def person(self, name: str, label: str) -> str:
        """A person's name, as `user` accepts it."""
        value = self.text(name, label, limits.MAX_NAME_LENGTH)
        if name in self.errors:
            return value
        try:
            return _PERSON.validate_python(value)
        except ValidationError as error:
            self.errors[name] = f"{first_wrong(error).reason}."
            return value

    def email(self, name: str) -> str:
        """An e-mail address."""
        value = self.text(name, "your e-mail address", limits.MAX_EMAIL_LENGTH)
        if name in self.errors:
            return value
        try:
            return normalised_email(value)
        except ValueError:
            self.errors[name] = "Enter an e-mail address like name@example.com."
            return value

    def password(self, name: str) -> str:
        """The password of an account that exists."""
        value = self.raw(name)
        if not value or len(value) > limits.MAX_PASSWORD_LENGTH:
            self.errors[name] = "Enter your password."
        return value

    def new_password(self, name: str) -> str:
        """A password to set; no rules but its length (NIST SP 800-63B §3.1.1.2)."""
        value = self.raw(name)
        if len(value) < limits.MIN_PASSWORD_LENGTH:
            self.errors[name] = f"Use at least {limits.MIN_PASSWORD_LENGTH} characters."
        elif len(value) > limits.MAX_PASSWORD_LENGTH:
            self.errors[name] = f"Use at most {limits.MAX_PASSWORD_LENGTH} characters."
        return value

    def code(self) -> str:
        """The field `code`, from a mailed link."""
        return self.text("code", "the code from the mail", limits.MAX_CODE_LENGTH)

    def quantity(self) -> int:
        """The field `quantity`, a whole number; 1 when the form has none.

        :raises CartRefused: it is no such number.
        """
        value = self.values.get("quantity", "1").strip()
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise CartRefused(
                f"A quantity is a whole number up to {MAX_QUANTITY}. Your cart has not changed."
            )
        return int(value)

    def product_id(self) -> str:
        """The field `product_id`; empty when it cannot be the id of a product."""
        value = self.raw("product_id")
        return value if is_slug(value) else ""

    def address(self) -> PostalAddress:
        """The fields of an address, checked as the services check them."""
        address = self._typed_address()
        if not self.errors.keys() & set(ADDRESS_FIELDS):
            try:
                NewAddress(**address.model_dump())
            except ValidationError as error:
                for wrong in error.errors(include_url=False, include_input=False):
                    self.errors[str(wrong["loc"][0])] = f"{wrong['msg']}."
        return address

    def _typed_address(self) -> PostalAddress:
        # In the order of the form's fields: what is wrong is listed so.
        name = self.person("name", "the recipient's name")
        street = self.text("street", "the street and house number", limits.MAX_STREET_LENGTH)
        country = self.raw("country")
        postal_code = self.text("postal_code", "the postal code", limits.MAX_POSTAL_CODE_LENGTH)
        example = expected_postal_code(country, postal_code)
        if example is not None and "postal_code" not in self.errors:
            self.errors["postal_code"] = f"In this country a postal code looks like {example}."
        city = self.text("city", "the city", limits.MAX_CITY_LENGTH)
        if country not in COUNTRIES:
            self.errors["country"] = "Choose a country from the list."
        return PostalAddress(
            name=name, street=street, postal_code=postal_code, city=city, country=country
        )

    def refused(
        self, error: ShopError, otherwise: str, names: Mapping[str, str] | None = None
    ) -> None:
        """Puts what a service found wrong at the fields that it is about, or else at `otherwise`.

        :param names: the form's fields by the service's, where they differ.
        """
        for part, message in error.fields.items():
            field = part.removeprefix("body.")
            name = (names or {}).get(field, field)
            if name in self.values:
                self.errors[name] = f"{message}."
        if not self.errors:
            self.errors[otherwise] = error.detail

    def kept(self, names: Sequence[str]) -> dict[str, str]:
        """What was typed, to show it again."""
        return {name: self.raw(name) for name in names}


async def _read_form(request: Request, visit: VisitDependency) -> Form:
    """The form of a request.

    :raises ShopError: DENIED, when it is not one of this visitor's own.
    """
    async with request.form(max_files=0, max_fields=_MAX_FIELDS) as data:
        values = {
            name: value[:_MAX_TEXT_LENGTH]
            for name, value in data.multi_items()
            if isinstance(value, str)
        }
    check_form(
        visit.seal, visit_id=visit.id_sent, token=values.get("form_token"), headers=request.headers
    )
    return Form(values)


FormDependency = Annotated[Form, Depends(_read_form)]
