"""Customers who keep buying during a lab, and how many of them were lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labs.errors import CommandFailed, LabError
from labs.meshed import MeshedShop
from labs.restoring import LAB_LABEL
from labs.visitor import ORDER

POD = "customers"
_SCRIPT = Path(__file__).parent / "customers.py"
_MANIFEST = Path(__file__).parent / "customers.yaml"
_HTTPS = 443
_LINE = re.compile(r"(?P<number>\d+) (?P<came_s>\d+) (?:served|lost (?P<why>.+))")


@dataclass(frozen=True, slots=True)
class Crowd:
    """The customers whose outcome is known.

    :ivar came_s: when each came, in Unix seconds.
    :ivar lost: of each lost one, when they came, in Unix seconds, and where they were lost.
    :ivar waiting: how many came before one of these, and still wait for an answer.
    """

    came_s: Sequence[int]
    lost: Sequence[tuple[int, str]]
    waiting: int = 0

    @property
    def reasons(self) -> Counter[str]:
        """The number of lost customers by where they were lost."""
        return Counter(why for _, why in self.lost)

    def is_known_until(self, moment_s: float) -> bool:
        """Returns whether the outcome is known of all who came until a moment, in Unix seconds."""
        return not self.waiting and max(self.came_s, default=0) >= moment_s


async def let_customers_in(shop: MeshedShop, *, every_seconds: float, for_seconds: float) -> None:
    """Starts a stream of customers, instead of one that runs already.

    :param every_seconds: how often a customer comes.
    :param for_seconds: how long the stream lasts.

    :raises LabError: their pod does not start.
    """
    gateway = shop.where.gateway
    where = {
        "host": shop.where.host,
        "gateway": f"{gateway.service}.{gateway.namespace}:{_HTTPS}",
        "every_seconds": every_seconds,
        "for_seconds": for_seconds,
        "order": ORDER,
    }
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": POD, "labels": {LAB_LABEL: POD}},
        "data": {
            _SCRIPT.name: _SCRIPT.read_text(encoding="utf-8"),
            "where.json": json.dumps(where),
        },
    }
    await shop.kubectl("delete", "pod", POD, "--ignore-not-found")
    await shop.kubectl("apply", "-f", "-", given=json.dumps(script))
    await shop.apply(_MANIFEST)


async def customers(shop: MeshedShop) -> Crowd:
    """Returns the outcome of the customers so far.

    :raises LabError: their pod does not exist.
    """
    try:
        said = await shop.kubectl("logs", POD)
    except CommandFailed as error:
        raise LabError(
            f"The pod {POD} does not run, so nobody knows what became of the customers: start the "
            "lab again."
        ) from error
    found = [match for line in said.splitlines() if (match := _LINE.fullmatch(line))]
    numbers = [int(match["number"]) for match in found]
    return Crowd(
        [int(match["came_s"]) for match in found],
        [(int(match["came_s"]), match["why"]) for match in found if match["why"]],
        waiting=max(numbers, default=-1) + 1 - len(numbers),
    )
