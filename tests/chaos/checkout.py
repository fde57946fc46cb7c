"""What one checkout of the workload is about: decided by chance, and by nothing but its number."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.testkit.customer import Items

SCARCE = ("rocking-horse", "two-person-trail-tent", "tabletop-globe", "velvet-footstool")
_UNKNOWN = "moon-dust"
_PLENTY = 1_000_000  # the most that a stock file may say
_COMMON = tuple(sorted(set(read_stock_file(InventorySettings().stock_file)) - set(SCARCE)))

_SCARCE_CHANCE = 0.06
_UNKNOWN_CHANCE = 0.02
_DECLINED_CHANCE = 0.1
_MAX_LINES = 3
_MAX_QUANTITY = 2
_LONGEST_PATIENCE_SECONDS = 0.3

_GOOD_CARDS = ("pm_card_visa", "pm_card_mastercard")
# https://docs.stripe.com/testing, and what the shop makes of each.
_DECLINED_CARDS = {
    "pm_card_visa_chargeDeclined": "card-declined",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "insufficient-funds",
    "pm_card_visa_chargeDeclinedExpiredCard": "expired-card",
    "pm_card_visa_chargeDeclinedProcessingError": "processing-error",
    "pm_card_authenticationRequired": "authentication-required",
}
_BAD_CARDS = tuple(_DECLINED_CARDS)


class Behaviour(StrEnum):
    """What a customer does beside placing the order."""

    PLAIN = "plain"
    IMPATIENT = "impatient"
    DOUBLED = "doubled"
    REUSES_KEY = "reuses-key"
    CANCELS = "cancels"
    CANCELS_TWICE = "cancels-twice"
    LOOKS = "looks"


_WEIGHTED: Mapping[Behaviour, int] = {
    Behaviour.PLAIN: 45,
    Behaviour.IMPATIENT: 15,
    Behaviour.DOUBLED: 12,
    Behaviour.REUSES_KEY: 6,
    Behaviour.CANCELS: 8,
    Behaviour.CANCELS_TWICE: 4,
    Behaviour.LOOKS: 10,
}
_BEHAVIOURS, _WEIGHTS = tuple(_WEIGHTED), tuple(_WEIGHTED.values())


@dataclass(frozen=True, slots=True)
class Checkout:
    """One order to be placed, under a key of its own, and how its customer behaves.

    :param patience_seconds: when an impatient customer drops the connection.
    """

    number: int
    key: str
    items: Items
    payment_method: str
    behaviour: Behaviour
    patience_seconds: float

    @classmethod
    def of(cls, seed: str, number: int) -> Checkout:
        """The checkout of that number, the same in every run with that seed."""
        chance = random.Random(f"{seed}:{number}")
        items: dict[str, int] = {}
        for _ in range(chance.randint(1, _MAX_LINES)):
            shelf = SCARCE if chance.random() < _SCARCE_CHANCE else _COMMON
            items[chance.choice(shelf)] = chance.randint(1, _MAX_QUANTITY)
        if chance.random() < _UNKNOWN_CHANCE:
            items[_UNKNOWN] = 1
        cards = _BAD_CARDS if chance.random() < _DECLINED_CHANCE else _GOOD_CARDS
        [behaviour] = chance.choices(_BEHAVIOURS, _WEIGHTS)
        return cls(
            number,
            key=f"{seed}-{number}",
            items=items,
            payment_method=chance.choice(cards),
            behaviour=behaviour,
            patience_seconds=chance.uniform(0.0, _LONGEST_PATIENCE_SECONDS),
        )

    @property
    def is_possible(self) -> bool:
        """Whether there are such products: otherwise no order comes of it."""
        return _UNKNOWN not in self.items

    @property
    def decline_code(self) -> str | None:
        """Why Stripe refuses the card; None for a good one."""
        return _DECLINED_CARDS.get(self.payment_method)

    def other_items(self) -> Items:
        """Something else, which may not be ordered under the same key."""
        return dict.fromkeys(self.items, _MAX_QUANTITY + 1)


def initial_stock(checkouts: int) -> dict[str, int]:
    """A stock with which that many checkouts find the common products, and use the scarce ones up
    at about a third of the way.
    """
    scarce = max(2, checkouts // 75)
    return {**dict.fromkeys(_COMMON, _PLENTY), **dict.fromkeys(SCARCE, scarce)}
