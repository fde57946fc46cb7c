"""The pages /mesh of all frontends, with the Prometheus of observability/: they show the
same, which is what was sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack

import pytest
from playwright.async_api import BrowserContext, Page

from tests.mesh.mesh_page import (
    PATIENCE_SECONDS,
    TOLERANCE,
    Shown,
    crowd,
    is_about,
    number,
    read_as_it_is,
    readers,
)
from tests.mesh.meshed import Mesh
from tests.mesh.test_traffic import CATALOGUE
from tests.testkit.customer import Client
from tests.testkit.matrix import TOPOLOGY
from tests.testkit.waiting import eventually

pytestmark = pytest.mark.long


async def test_all_frontends_show_the_same(
    mesh: Mesh, shown: Mesh, client: Client, window: BrowserContext, page: Page
) -> None:
    """Two of the usual one and one of each variant, asked one by one: of pages, each of which came
    to one of them, and of the API, which came to none of them in a mesh.
    """
    frontend = "deployment/frontend"
    port = TOPOLOGY.services["frontend"].http.port
    mesh.namespace.kubectl("scale", frontend, "--replicas=2")
    try:
        mesh.namespace.roll_out(frontend)
        pods = mesh.release.pods("frontend")
        assert len(pods) == 4, pods
        with ExitStack() as stack:
            addresses = [
                stack.enter_context(mesh.namespace.forwarded(f"pod/{pod}", port)) for pod in pods
            ]
            async with crowd(*readers(client, CATALOGUE, CATALOGUE, "/about", "/about")) as sent:
                await sent.is_settled()
                latest: list[Shown] = []

                async def all_agree() -> bool:
                    """At once, and again: Prometheus may look at pods while they ask."""
                    texts = await asyncio.gather(
                        *(_text(window, f"http://{address}/mesh") for address in addresses)
                    )
                    latest[:] = [await _read_text(page, text) for text in texts]
                    return all(is_same(each, latest[0]) for each in latest)

                try:
                    await eventually(all_agree, "all frontends show the same", PATIENCE_SECONDS)
                finally:
                    for pod, each in zip(pods, latest, strict=False):
                        print(f"{pod}: {each}")
                expected = {name: sent.in_a_window(name) for name in ("product", "frontend")}
    finally:
        mesh.namespace.kubectl("scale", frontend, "--replicas=1")
        mesh.namespace.roll_out(frontend)
    assert len({call.instance for call in sent.calls("frontend")}) > 1, "none has made all pages"
    assert "From Prometheus" in latest[0].notes
    answers = {
        name: sum(number(row["Answers"]) for row in latest[0].services[name].values())
        for name in expected
    }
    print(f"shown: {answers}; a window of what was sent: {expected}")
    assert is_about(answers["product"], expected["product"])
    assert answers["frontend"] >= (1 - TOLERANCE) * expected["frontend"], "mesh pages count, too"


def is_same(one: Shown, other: Shown) -> bool:
    """Whether two pages show the same numbers. The ends of their windows are not at the same
    moment, so what is inferred there may differ by a call or two in forty.
    """
    counts, others = counts_of(one), counts_of(other)
    return one.notes == other.notes and all(
        abs(counts[name] - others[name]) <= max(2, 0.05 * counts[name])
        for name in counts.keys() | others.keys()
    )


def counts_of(seen: Shown) -> Counter[tuple[str, str, str]]:
    """All calls, errors and answers; what is not shown is 0."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (caller, callee), row in seen.calls.items():
        found[caller, callee, "calls"] = int(number(row["Calls"]))
        found[caller, callee, "errors"] = int(number(row["Errors"]))
    for name, versions_of in seen.services.items():
        for version, row in versions_of.items():
            found[name, version, "answers"] = int(number(row["Answers"]))
    return found


async def _text(window: BrowserContext, url: str) -> str:
    answer = await window.request.get(url)
    assert answer.ok, answer
    return await answer.text()


async def _read_text(page: Page, text: str) -> Shown:
    await page.set_content(text, wait_until="domcontentloaded")
    return await read_as_it_is(page)
