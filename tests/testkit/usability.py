"""What everybody can expect of a page: axe finds nothing, and a small phone shows all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Literal

from playwright.async_api import Page

NARROW, PHONE, DESK = 360, 390, 1280

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice")
_TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth <= width) return null;
  const scrolls = (one) => one !== document.body
    && (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(one).overflowX)
      || scrolls(one.parentElement));
  const wide = [...document.querySelectorAll("body *")].filter(
    (one) => one.getBoundingClientRect().right > width + 1 && !scrolls(one.parentElement));
  return wide.slice(0, 5).map((one) => one.outerHTML.slice(0, 120));
}"""


async def problems_of(page: Page) -> list[str]:
    """All that is wrong with a page, with everything unfolded: on a desk in light colours, on a
    phone in dark ones, and on a narrow phone.
    """
    await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    await page.evaluate(_AXE)
    return [
        *await _violations(page, DESK, "light"),
        *await _violations(page, PHONE, "dark"),
        *await _too_wide(page),
    ]


async def _violations(page: Page, width: int, scheme: Literal["light", "dark"]) -> list[str]:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    options = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": _TAGS}}
    result: Mapping[str, Any] = await page.evaluate("options => axe.run(options)", options)
    return [f"{width} px, {scheme}: {text}" for text in _described(result["violations"])]


def _described(violations: list[Mapping[str, Any]]) -> Iterator[str]:
    for violation in violations:
        for node in violation["nodes"]:
            yield f"{violation['id']}: {node['failureSummary']}\n    {node['html']}"


async def _too_wide(page: Page) -> list[str]:
    await page.set_viewport_size({"width": NARROW, "height": 800})
    wide: list[str] | None = await page.evaluate(_TOO_WIDE)
    return [f"{NARROW} px: scrolls sideways because of {wide}"] if wide is not None else []
