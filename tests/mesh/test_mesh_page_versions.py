"""What the page /mesh shows of a canary, with the Prometheus of observability/: its figures are
held against the records of what was sent.
"""

from __future__ import annotations

from collections import Counter

import pytest
from playwright.async_api import Page

from tests.mesh.mesh_page import (
    COUNTED,
    Take,
    crowd,
    is_about,
    number,
    read_when,
    readers,
)
from tests.mesh.meshed import Mesh, takes_effect
from tests.mesh.scenarios import shows
from tests.mesh.test_traffic import (
    CATALOGUE,
    everybody_sees,
    is_share,
    versions,
    versions_behind_pages,
)
from tests.testkit.chance import is_chance
from tests.testkit.customer import Client

pytestmark = pytest.mark.long


@pytest.mark.parametrize("scenario", ["03-canary-by-weight/10"])
@shows()
async def test_a_canary_of_ten_percent(
    mesh: Mesh, shown: Mesh, client: Client, page: Page, pictures: Take, scenario: str
) -> None:
    with mesh.scenario(scenario):

        async def is_split() -> bool:
            pages = await versions_behind_pages(client, 50)
            return is_share(await versions(client, 100), 0.1) and is_share(pages, 0.1)

        await takes_effect(is_split, "about 10 % see v2")
        people = readers(client, CATALOGUE, CATALOGUE, "/products", "/products")
        async with crowd(*people) as sent:
            await sent.is_settled()
            seen = await read_when(
                page, "Prometheus is asked", lambda seen: "From Prometheus" in seen.notes
            )
            expected = sent.in_a_window("product")
            await pictures(page, "03-canary-by-weight-10")
    box = seen.services["product"]
    assert box.keys() == {"v1", "v2"}, box
    shares = {version: number(row["Answers"]) for version, row in box.items()}
    total = sum(shares.values())
    by_record = Counter(call.version for call in sent.calls("product"))
    print(f"shown: {shares}; a window of what was sent: {expected:.0f}; all of it: {by_record}")
    assert sent.answers[200] >= 0.98 * sent.answers.total(), sent.answers  # or the node is too busy
    assert is_about(total, expected), (total, expected)
    assert is_chance(round(COUNTED * shares["v2"]), round(COUNTED * total), 0.1), box
    assert is_chance(by_record["v2"], by_record["v1"] + by_record["v2"], 0.1), by_record
    for version, row in box.items():
        assert number(row["Share"]) == pytest.approx(100 * shares[version] / total, abs=0.6)
        assert number(row["Errors"]) < 2, box
    assert {("frontend", "product"), ("visitors", "product")} <= seen.calls.keys()
    pages = number(seen.calls["frontend", "product"]["Calls"])
    assert is_about(pages, expected * len(sent.calls("product", "frontend")) / by_record.total())
    await everybody_sees(client, "v1", "v2")
