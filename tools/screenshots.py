"""The pictures in the README: six pages of a shop that has just been used, on a desk and on a
phone, in light and in dark colours. And the picture of the shop that goes with a link to it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Browser, StorageState, ViewportSize

from tests.harness.browser import MISSING, chromium, open_browser
from tests.harness.shop import Shop
from tests.harness.shopper import Shopper

_ROOT = Path(__file__).parent.parent
FOLDER = _ROOT / "docs" / "screenshots"
SHARED = _ROOT / "services" / "frontend" / "static" / "share.jpg"
# The size that https://ogp.me consumers ask for, which layout.html says.
_SHARED_SIZE: Final[ViewportSize] = {"width": 1200, "height": 630}

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
            await page.screenshot(path=FOLDER / f"{name}-{device}-{scheme}.png")


async def _take_shared(browser: Browser, shop: Shop) -> None:
    async with await browser.new_context(
        base_url=shop.url, viewport=_SHARED_SIZE, color_scheme="light", reduced_motion="reduce"
    ) as context:
        page = await context.new_page()
        await page.goto("/", wait_until="networkidle")
        await page.screenshot(path=SHARED, type="jpeg", quality=80)


async def take_all(executable: str) -> None:
    """Starts a shop with empty data and takes all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
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
