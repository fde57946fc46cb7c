"""Nothing lies on top of something else or is cut off, from the smallest phone to a desk; times are
the reader's own.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import NewShopper
from tests.browser.pages import BOARD, LANTERN
from tests.testkit.customer import ADDRESS, Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.shopper import Shopper

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDTHS = (320, 360, 768, 1280)
# The dearest line that a cart can hold begins with four digits.
DEAR, MANY = "two-person-trail-tent", 10

_OVERLAPS = """() => {
  const shown = [...document.querySelectorAll("main :is(.price, .button, .button-link, input, h3)")]
    .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden"));
  const met = [];
  for (const [n, one] of shown.entries()) for (const other of shown.slice(n + 1)) {
    if (one.contains(other) || other.contains(one)) continue;
    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
    const beside = a.left >= b.right - 1 || b.left >= a.right - 1;
    const below = a.top >= b.bottom - 1 || b.top >= a.bottom - 1;
    if (!beside && !below) met.push(`${one.textContent.trim()} | ${other.textContent.trim()}`);
  }
  return met;
}"""


async def fits(page: Page) -> None:
    """Nothing scrolls sideways, and no price, button or field lies on another."""
    width: int = await page.evaluate("document.scrollingElement.scrollWidth")
    assert page.viewport_size is not None
    assert width <= page.viewport_size["width"]
    assert await page.evaluate(_OVERLAPS) == []


async def bottom_of(locator: Locator) -> float:
    """How far below the top of the window something ends."""
    box = await locator.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


async def are_beside(one: Locator, other: Locator) -> bool:
    """Whether two things are on one line."""
    a, b = await one.bounding_box(), await other.bounding_box()
    assert a is not None
    assert b is not None
    return a["y"] < b["y"] + b["height"] and b["y"] < a["y"] + a["height"]


@pytest.fixture(scope="module")
def preview_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """With the catalogue of product v2, whose texts are longer; of all services only few."""
    arguments = ("--only", "frontend,auth,product,inventory", "--versions", "product=v2")
    with Shop(tmp_path_factory.mktemp("preview"), *arguments) as shop:
        yield shop


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_dear_cart_and_its_header(
    new_shopper: NewShopper, customer: Customer, width: int
) -> None:
    shopper = await new_shopper(width=width)
    await shopper.log_in(customer.email)
    await expect(shopper.page.get_by_role("status")).to_contain_text("Welcome back")
    await shopper.put_into_cart(DEAR, MANY)
    await shopper.put_into_cart(BOARD)
    await fits(shopper.page)
    if width < 768:
        assert await bottom_of(shopper.page.locator("header.top")) <= 176  # of 640 and more
        for line in await shopper.main.locator(".line").all():
            box = await line.bounding_box()
            assert box is not None
            assert box["height"] <= 170
    remove = shopper.main.get_by_role("button", name="Remove Oak Serving Board")
    box = await remove.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 24  # WCAG 2.2 §2.5.8
    await shopper.open("/")
    await fits(shopper.page)


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_catalogue_with_its_filters(new_shopper: NewShopper, width: int) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/products?q=lmap&min_price=10&in_stock=yes")
    await expect(shopper.main.get_by_role("link", name="lamp", exact=True)).to_be_visible()
    await fits(shopper.page)
    show = shopper.main.get_by_role("button", name="Show")
    assert await are_beside(shopper.main.get_by_label("In stock only"), show)
    prices = [shopper.main.get_by_label(label) for label in ("From €", "Up to €")]
    assert await are_beside(*prices)
    if width >= 1280:
        assert await are_beside(shopper.main.get_by_label("Department"), show)


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_menu_is_whole_or_shows_that_it_goes_on(
    new_shopper: NewShopper, width: int
) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/products")
    menu = shopper.page.get_by_role("navigation", name="Shop").get_by_role("list")
    hidden = await menu.evaluate("menu => menu.scrollWidth - menu.clientWidth")
    if width >= 768:
        assert hidden <= 0
        last = menu.get_by_role("link", name="Behind the shop")
        await expect(last).to_be_in_viewport(ratio=1)
    else:
        assert hidden > 0
        attached = "menu => getComputedStyle(menu).backgroundAttachment"
        # What hides the dark edge moves with the row's end, the edge itself does not.
        assert set((await menu.evaluate(attached)).split(", ")) == {"local", "scroll"}


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_orders_and_their_search(
    new_shopper: NewShopper, customer: Customer, width: int
) -> None:
    await customer.bought({BOARD: 1})
    await customer.bought({BOARD: 1, LANTERN: 1, DEAR: 1})
    shopper = await new_shopper(width=width)
    await shopper.log_in(customer.email)
    await shopper.open("/orders")
    await fits(shopper.page)
    query = shopper.main.get_by_role("searchbox")
    label = await shopper.main.get_by_text("Number or product").bounding_box()
    box, form = [await one.bounding_box() for one in (query, shopper.main.get_by_role("search"))]
    assert label is not None
    assert box is not None
    assert form is not None
    assert label["height"] <= 30, "one line"
    if width < 640:
        assert box["width"] >= 0.95 * form["width"]
        return
    for row in await shopper.main.locator(".row").all():
        pictures = await row.locator(".row-pictures").bounding_box()
        last = await row.locator(".row-pictures img").last.bounding_box()
        assert pictures is not None
        assert last is not None
        assert last["x"] + last["width"] >= pictures["x"] + pictures["width"] / 2 - 4
        assert pictures["width"] <= 80


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_long_address_widens_no_page(
    new_shopper: NewShopper, customer: Customer, width: int
) -> None:
    long = {**ADDRESS, "name": "N" * 100, "street": "S" * 190 + " 1", "city": "C" * 100}
    added = await customer.send("POST", "/api/users/me/addresses", json=long)
    assert added.status == 201
    shopper = await new_shopper(width=width)
    await shopper.log_in(customer.email)
    await shopper.put_into_cart(BOARD)
    for path in ("/checkout?change=1", "/profile"):
        await shopper.open(path)
        await fits(shopper.page)
    await shopper.open("/checkout?change=1")
    await shopper.page.get_by_role("button", name="Deliver here").click()
    await expect(shopper.pay_button).to_be_enabled()
    await fits(shopper.page)
    await shopper.pay()
    await shopper.order_confirmed()
    await fits(shopper.page)


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_heading_breaks_between_words_only(new_shopper: NewShopper, width: int) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/confirm")
    lines = "one => one.getClientRects().length"
    assert await shopper.main.locator("h1 span").evaluate(lines) == 1


@pytest.mark.parametrize("width", WIDTHS)
async def test_what_was_loaded_is_there_when_one_comes_back(
    new_shopper: NewShopper, width: int
) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/products?sort=name")
    cards = shopper.main.locator(".card")
    seen = await cards.count()
    await shopper.main.get_by_role("link", name="Load more").click()
    await expect(cards).to_have_count(2 * seen)
    await expect(cards.nth(seen).get_by_role("link")).to_be_focused()
    await fits(shopper.page)
    names = await shopper.main.locator(".card-name").all_inner_texts()
    last = names[-1]
    await shopper.main.get_by_role("link", name=last, exact=True).click()
    await expect(shopper.page.get_by_role("heading", level=1)).to_have_text(last)

    await shopper.page.go_back()

    await expect(cards).to_have_count(2 * seen)
    await expect(shopper.main.get_by_role("link", name=last, exact=True)).to_be_in_viewport()
    assert await shopper.main.locator(".card-name").all_inner_texts() == names


async def test_more_is_loaded_until_there_is_no_more(
    new_shopper: NewShopper, client: Client
) -> None:
    shopper = await new_shopper()
    await shopper.open("/products?sort=name")
    more = shopper.main.get_by_role("link", name="Load more")
    for pages in (2, 3):
        await more.click()
        await expect(shopper.page).to_have_url(re.compile(rf"pages={pages}$"))
    await expect(more).to_have_count(0)
    ids = await shopper.main.locator(".card").evaluate_all("cards => cards.map((card) => card.id)")
    assert ids == [f"result-{number}" for number in range(1, len(ids) + 1)]
    links = shopper.main.locator(".card-name a")
    paths = await links.evaluate_all("links => links.map((link) => link.pathname)")
    first = (await client.send("GET", "/api/products?limit=60&sort=name")).body
    rest = (
        await client.send("GET", f"/api/products?limit=60&sort=name&cursor={first['next_cursor']}")
    ).body
    assert paths == [f"/products/{one['id']}" for one in (*first["items"], *rest["items"])]


@pytest.mark.parametrize("width", WIDTHS)
async def test_more_without_scripts_goes_on_where_one_was(
    new_shopper: NewShopper, width: int
) -> None:
    shopper = await new_shopper(width=width, has_scripts=False)
    await shopper.open("/products?sort=name")
    cards = shopper.main.locator(".card")
    seen = await cards.count()
    await shopper.main.get_by_role("link", name="Load more").click()
    await expect(cards).to_have_count(2 * seen)
    await expect(cards.nth(seen)).to_be_in_viewport()
    await expect(cards.first).not_to_be_in_viewport()


@pytest.mark.parametrize("width", WIDTHS)
async def test_no_text_of_a_product_is_cut_off(
    new_shopper: NewShopper, preview_shop: Shop, width: int
) -> None:
    shopper = await new_shopper(width=width, shop=preview_shop)
    await shopper.open("/products")
    hidden = "texts => texts.filter((one) => one.scrollHeight > one.clientHeight + 1).length"
    assert await shopper.main.locator(".card-blurb").evaluate_all(hidden) == 0
    await fits(shopper.page)


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_note_of_an_outage_stands_apart(
    new_shopper: NewShopper, preview_shop: Shop, width: int
) -> None:
    shopper = await new_shopper(width=width, shop=preview_shop)
    await shopper.open("/")
    preview_shop.pause("product")
    try:
        await shopper.open("/")
    finally:
        preview_shop.resume("product")
    note = shopper.main.locator(".resting")
    await expect(note).to_contain_text("The catalogue is taking a short break")
    departments = shopper.main.locator(".departments")
    box = await note.bounding_box()
    assert box is not None
    assert box["y"] - await bottom_of(departments) >= 40
    await fits(shopper.page)
    shopper.forget_complaints()  # of the pictures that the first page still wanted


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_product_can_be_bought_on_the_first_screen_of_a_tablet(
    new_shopper: NewShopper, width: int
) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open(f"/products/{DEAR}")
    await fits(shopper.page)
    if width >= 768:
        button = shopper.page.get_by_role("button", name="Add to cart")
        assert await bottom_of(button) <= 900
        assert await bottom_of(shopper.main.locator(".product-price")) <= 900


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_graph_is_whole_on_a_tablet(new_shopper: NewShopper, width: int) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/mesh")
    await fits(shopper.page)
    if width >= 768:
        hidden = "frame => frame.scrollWidth - frame.clientWidth"
        assert await shopper.page.locator(".graph-frame").evaluate(hidden) <= 0


async def test_times_are_the_readers_own(browser: Browser, shop: Shop, customer: Customer) -> None:
    order_id = await customer.bought({BOARD: 1})
    context = await browser.new_context(base_url=shop.url, timezone_id="Asia/Tokyo")
    shopper = Shopper(context, await context.new_page())
    await shopper.log_in(customer.email)
    await shopper.open(f"/orders/{order_id}")
    time = shopper.main.locator("dd time")
    at = datetime.fromisoformat(await time.get_attribute("datetime") or "")
    local = at.astimezone(ZoneInfo("Asia/Tokyo"))
    await expect(time).to_have_text(f"{local.day} {local:%B %Y, %H:%M} GMT+9")
    assert shopper.complaints == []
    await context.close()
