"""What holds for every page: everybody can use it, on any screen, and its console stays empty (the
last is checked for each window of these tests when it closes).
"""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.browser.pages import PAGES, People
from tests.testkit.customer import Client
from tests.testkit.shopper import Shopper
from tests.testkit.usability import problems_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def people(client: Client) -> People:
    return await People.meet(client)


@pytest.mark.parametrize("name", PAGES)
async def test_everybody_can_use(name: str, shopper: Shopper, people: People) -> None:
    await PAGES[name](shopper, people)

    problems = await problems_of(shopper.page)

    assert not problems, "\n".join(problems)
