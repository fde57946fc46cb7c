"""The pictures in docs/screenshots: six pages of a shop that has just been used, on a desk and on a
phone, in light and in dark colours; and what the tour of the README shows. And the picture of the
shop that goes with a link to it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Browser, Page, StorageState, ViewportSize, expect

from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.shop import Shop
from tests.testkit.shopper import Shopper
from tests.testkit.waiting import eventually

_ROOT = Path(__file__).parents[2]
FOLDER = _ROOT / "docs" / "screenshots"
SHARED = _ROOT / "services" / "frontend" / "static" / "share.jpg"
# The size that https://ogp.me consumers ask for, which layout.html says.
_SHARED_SIZE: Final[ViewportSize] = {"width": 1200, "height": 630}

# What the README starts for its tour, and how often it asks for the catalogue of the canary.
_SLOW = ("--slow", "payment=3s")
_CANARY = ("--versions", "product=v1:9,v2:1")
_CANARY_REQUESTS = 100

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SIZES: Final[Mapping[str, tuple[int, int]]] = {"desktop": (1280, 900), "phone": (390, 844)}

WANTED = {"oak-serving-board": 2, "stovetop-kettle": 1, "rattan-pendant-lamp": 1}
BOUGHT_BEFORE = ("wool-throw-blanket", "camp-lantern", "fountain-pen-and-ink")


async def _prepare(browser: Browser, shop: Shop) -> tuple[Mapping[str, str], StorageState]:
    """Lets somebody use the shop; gives the six pages' paths and what their browser keeps."""
    async with await browser.new_context(base_url=shop.url) as context:
        shopper = Shopper(context, await context.new_page())
        await shopper.register("Ada Lovelace")
        await shopper.search("lamp")
        for product_id in BOUGHT_BEFORE:
            await shopper.put_into_cart(product_id)
        await shopper.open("/checkout")
        await shopper.give_address()
        await shopper.page.get_by_role("button", name="Continue to payment").click()
        await shopper.pay()
        order_id = await shopper.order_confirmed()
        for product_id, quantity in WANTED.items():
            await shopper.put_into_cart(product_id, quantity)
        await shopper.open("/inbox")
        pages = {
            "home": "/",
            "catalogue": "/products?category=kitchen",
            "product": "/products/rattan-pendant-lamp",
            "cart": "/cart",
            "order": f"/orders/{order_id}",
            "mesh": "/mesh",
        }
        return pages, await context.storage_state()


async def _take(
    browser: Browser,
    shop: Shop,
    pages: Mapping[str, str],
    session: StorageState,
    *,
    device: str,
    scheme: Scheme,
) -> None:
    width, height = SIZES[device]
    async with await browser.new_context(
        base_url=shop.url,
        storage_state=session,
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
    ) as context:
        page = await context.new_page()
        for name, path in pages.items():
            await page.goto(path, wait_until="networkidle")
            # A process of a busy machine may be late; the mesh page looks again by itself.
            await expect(page.get_by_role("main")).not_to_contain_text("does not answer")
            await page.screenshot(path=FOLDER / f"{name}-{device}-{scheme}.png")


async def _take_shared(browser: Browser, shop: Shop) -> None:
    async with await browser.new_context(
        base_url=shop.url, viewport=_SHARED_SIZE, color_scheme="light", reduced_motion="reduce"
    ) as context:
        page = await context.new_page()
        await page.goto("/", wait_until="networkidle")
        await page.screenshot(path=SHARED, type="jpeg", quality=80)


async def _take_canary(page: Page) -> None:
    # Only what is seen afterwards is warm: the first page of a shop takes its time.
    for _ in range(2):
        await page.goto("/products/rattan-pendant-lamp", wait_until="networkidle")
    panel = page.locator("details", has_text="How this page was made")
    await panel.locator("summary").click()
    await panel.screenshot(path=FOLDER / "tour-how-made.png")
    for _ in range(_CANARY_REQUESTS):
        answer = await page.request.get("/api/products?limit=1")
        assert answer.ok, answer
    await page.goto("/mesh", wait_until="networkidle")
    await expect(page.get_by_role("main")).to_contain_text("v2")
    await page.screenshot(path=FOLDER / "tour-canary.png")


async def _take_killed(page: Page, shop: Shop) -> None:
    shopper = Shopper(page.context, page)
    await shopper.register("Ada Lovelace")
    await shopper.go_to_payment("stovetop-kettle")
    paying = asyncio.create_task(shopper.pay())

    async def is_under_way() -> bool:
        return "Being processed" in await (await page.request.get("/orders")).text()

    await eventually(is_under_way, "the order is under way")
    shop.kill("payment")
    await paying
    await shopper.order_confirmed()
    await page.goto("/mesh", wait_until="networkidle")
    await expect(page.get_by_role("main")).to_contain_text("\N{MULTIPLICATION X}")
    await page.screenshot(path=FOLDER / "tour-killed.png")


async def take_tour(browser: Browser) -> None:
    """Starts the shops of the README's tour, and takes its pictures."""
    width, height = SIZES["desktop"]
    for arguments in (_CANARY, _SLOW):
        with tempfile.TemporaryDirectory() as folder, Shop(Path(folder), *arguments) as shop:
            async with await browser.new_context(
                base_url=shop.url,
                viewport={"width": width, "height": height},
                color_scheme="light",
                reduced_motion="reduce",
            ) as context:
                page = await context.new_page()
                if arguments == _CANARY:
                    await _take_canary(page)
                else:
                    await _take_killed(page, shop)


async def take_all(executable: str) -> None:
    """Starts shops with empty data and takes all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with open_browser(executable) as browser:
        await take_tour(browser)
    with tempfile.TemporaryDirectory() as folder, Shop(Path(folder)) as shop:
        async with open_browser(executable) as browser:
            await _take_shared(browser, shop)
            pages, session = await _prepare(browser, shop)
            for device in SIZES:
                for scheme in SCHEMES:
                    await _take(browser, shop, pages, session, device=device, scheme=scheme)


def main() -> int:
    """Gives the exit status: 1 without a Chromium."""
    executable = chromium()
    if executable is None:
        print(MISSING, file=sys.stderr)
        return 1
    asyncio.run(take_all(executable))
    pictures = sorted(FOLDER.glob("*.png"))
    size_mb = sum(picture.stat().st_size for picture in pictures) / 1e6
    print(f"{len(pictures)} pictures in docs/screenshots, {size_mb:.1f} MB together")
    return 0


if __name__ == "__main__":
    sys.exit(main())
