"""Money is added up in one currency and written in one way."""

from __future__ import annotations

import pytest

from services.common.money import CURRENCY, Money


@pytest.mark.parametrize(
    ("amount", "written", "decimal"),
    [
        (Money(0), "€ 0.00", "0.00"),
        (Money(5), "€ 0.05", "0.05"),
        (Money(123_456_789), "€ 1,234,567.89", "1234567.89"),
        (Money(-2495), "-€ 24.95", "-24.95"),
        (Money(2495, "USD"), "$ 24.95", "24.95"),
        (Money(2495, "CHF"), "CHF 24.95", "24.95"),
    ],
)
def test_an_amount_is_written_in_one_way(amount: Money, written: str, decimal: str) -> None:
    assert (str(amount), amount.decimal) == (written, decimal)


def test_amounts_add_up_in_one_currency() -> None:
    assert Money(2495) * 2 + Money(5) == Money(4995, CURRENCY)
    with pytest.raises(ValueError, match="EUR and USD"):
        _ = Money(1) + Money(1, "USD")


def test_an_amount_survives_its_message() -> None:
    assert Money.of_message(Money(-1, "USD").to_message()) == Money(-1, "USD")
