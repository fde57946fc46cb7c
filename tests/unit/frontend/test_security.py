"""What visitors cannot do: forge forms, carts or identities, run scripts, or break a page."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Callable

import pytest
from fastapi.routing import APIRoute
from yarl import URL

from services.common.limits import MAX_LINES
from services.frontend.cart import cart_from_cookie, cart_to_cookie
from services.frontend.model import Cart, CartLine
from services.frontend.pages import account, cart, catalogue, checkout, mesh, orders, profile
from services.frontend.sealing import Seal
from services.frontend.security import local_path
from tests.testkit.customer import address_fields
from tests.testkit.visitor import Visitor
from tests.unit.common.kit import until
from tests.unit.frontend.fakes import ADA, SECRET, Backends, product

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
FORM_PATHS = sorted(
    route.path.format(order_id="ord_1")
    for module in (account, cart, catalogue, checkout, mesh, orders, profile)
    for route in module.routes.routes
    if isinstance(route, APIRoute) and "POST" in (route.methods or ())
)


async def test_every_answer_has_the_headers(visitor: Visitor) -> None:
    for path in ("/", "/nowhere", "/static/base.css", "/orders", "/pictures/oak-board.svg"):
        headers = (await visitor.get(path, follow=False)).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        assert headers["referrer-policy"] == "same-origin", path
    policy = (await visitor.get("/")).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy


async def test_pages_are_made_of_nothing_that_the_policy_forbids(visitor: Visitor) -> None:
    for path in ("/", "/products/oak-board", "/cart", "/login", "/mesh", "/about"):
        for tag, given in (await visitor.get(path)).tags:
            assert "style" not in given, (path, tag)
            assert tag != "style", path
            assert not any(name.startswith("on") for name in given), (path, tag)
            if given.get("type") == "application/ld+json":
                continue  # data, which no browser runs
            assert tag != "script" or (given["src"] or "").startswith("/static/"), path


@pytest.mark.parametrize("path", FORM_PATHS)
async def test_a_form_without_the_right_token_changes_nothing(
    visitor: Visitor, backends: Backends, path: str
) -> None:
    await visitor.log_in(ADA)
    backends.seen.clear()
    for data in (
        {},
        {"form_token": "0" * 64},
        {"form_token": "\u20ac"},
        {"form_token": "\u20ac.x"},
    ):
        page = await visitor.post(path, {**data, "product_id": "oak-board", "name": "x"})
        assert page.status == 403, path
        assert "We did not accept that form" in page.text
    changes = [seen for seen in backends.seen if not seen.operation.startswith("GET")]
    assert changes == []
    assert not visitor.cookie("meshmart-cart")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_form_from_elsewhere_is_refused_in_spite_of_its_token(
    visitor: Visitor, headers: dict[str, str]
) -> None:
    form = (await visitor.get("/products/oak-board")).form("/cart")
    page = await visitor.post("/cart", form.fields, headers)
    assert page.status == 403


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://shop.example", "shop.example:443"),
        ("https://shop.example:443", "shop.example"),
        ("http://Shop.example", "shop.example:80"),
        ("http://shop.example:8080", "shop.example:8080"),
    ],
)
async def test_a_default_port_makes_no_other_origin(
    visitor: Visitor, origin: str, host: str
) -> None:
    form = (await visitor.get("/products/oak-board")).form("/cart")
    page = await visitor.post("/cart", form.fields, {"origin": origin, "host": host})
    assert page.status != 403


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://shop.example", "shop.example:80"),
        ("http://shop.example:8080", "shop.example"),
    ],
)
async def test_another_port_is_another_origin(visitor: Visitor, origin: str, host: str) -> None:
    form = (await visitor.get("/products/oak-board")).form("/cart")
    page = await visitor.post("/cart", form.fields, {"origin": origin, "host": host})
    assert page.status == 403


async def test_a_client_that_leaves_in_mid_form_is_no_failure(
    visitor: Visitor, capsys: pytest.CaptureFixture[str]
) -> None:
    url = URL(visitor.base_url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /cart HTTP/1.1\r\nhost: {url.host}\r\ncontent-length: 100\r\n"
    form = "content-type: application/x-www-form-urlencoded\r\n\r\nproduct_id=oak"
    writer.write(f"{head}{form}".encode())
    await writer.drain()
    writer.close()
    said: list[str] = []

    def is_noticed() -> bool:
        said.append(capsys.readouterr().out)
        return "http.client_gone" in "".join(said)

    await until(is_noticed)
    assert "page.failed" not in "".join(said)


async def test_the_token_of_one_visitor_is_none_for_another(
    visitor: Visitor, new_visitor: Callable[[str], Visitor]
) -> None:
    form = (await visitor.get("/products/oak-board")).form("/cart")
    other = new_visitor(visitor.base_url)
    await other.get("/")
    assert (await other.send(form)).status == 403


async def test_what_browsers_say_about_themselves_is_dropped(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.get(
        "/products",
        user_id="usr_root",
        x_user_group="beta",
        authorization=f"Bearer {backends.access_token()}",
        x_deadline_ms="999999",
    )
    (seen,) = backends.calls_of("GET /api/products")
    assert "user-id" not in seen.headers
    assert "x-user-group" not in seen.headers
    assert "authorization" not in seen.headers


async def test_script_is_text_everywhere(visitor: Visitor, backends: Backends) -> None:
    evil = product(
        "oak-board",
        name=SCRIPT,
        brand=SCRIPT,
        blurb=SCRIPT,
        description=SCRIPT,
        details={SCRIPT: SCRIPT},
        badges=[SCRIPT],
        sustainability=SCRIPT,
        version="v2",
        available=3,
    )
    backends.products["oak-board"] = evil
    backends.profile["name"] = SCRIPT
    backends.messages = [
        {"id": "1", "subject": SCRIPT, "text": SCRIPT, "created_at": "2026-11-23T20:15:00Z"}
    ]
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    page = await visitor.get("/checkout")
    address = address_fields(
        name=SCRIPT, street=SCRIPT, city=SCRIPT, postal_code="<b>1</b>", country="IE"
    )
    paying = await visitor.send(page.form("/checkout/address"), **address)
    order = await visitor.send(paying.form("/checkout"), payment_method="pm_card_visa")
    pages = [
        await visitor.get(path)
        for path in ("/", "/products", "/products/oak-board", "/profile", "/inbox", "/orders")
    ]
    searched = await visitor.get("/products?q=%3Cscript%3Ealert(1)%3C/script%3E%22'%3E")
    missing = await visitor.get("/%3Cscript%3Ealert(1)%3C/script%3E?x=%22%3E%3Cimg%20src=x%3E")
    for shown in (paying, order, *pages, searched, missing):
        assert "<script>alert" not in shown.html, shown.path
        assert "<img src=x" not in shown.html, shown.path
        assert "onerror" not in {name for _, given in shown.tags for name in given}, shown.path
    assert all("alert(1)" in shown.text for shown in (paying, order, *pages, searched))


@pytest.mark.parametrize("cookie", ["x", "a.b.c", "W10.x.y", "é", "A" * 5000])
async def test_a_tampered_cart_is_an_empty_cart(visitor: Visitor, cookie: str) -> None:
    page = await visitor.get("/cart", cookie=f"meshmart-cart={cookie}")
    assert page.status == 200
    assert "Your cart is empty" in page.text


async def test_a_tampered_cart_is_explained(visitor: Visitor) -> None:
    await visitor.add_to_cart("oak-board")
    visitor.set_cookie("meshmart-cart", (visitor.cookie("meshmart-cart") or "") + "0")
    page = await visitor.get("/cart")
    assert "Your cart could not be read, so it is empty now." in page.text
    assert "could not be read" not in (await visitor.get("/cart")).text


async def test_carts_survive_the_cookie_and_nothing_else_does() -> None:
    seal = Seal(SECRET)
    full = Cart(tuple(CartLine(f"product-number-{n:03}", 20) for n in range(MAX_LINES)))
    assert cart_from_cookie(seal, cart_to_cookie(seal, full)) == full
    assert cart_from_cookie(Seal(SECRET + "!"), cart_to_cookie(seal, full)) is None
    wrong: list[object] = [{}, [["x", 21]], [["x", 0]], [["x"]], [["../x", 1]], [["x", "1"]], ["x"]]
    for value in wrong:
        assert cart_from_cookie(seal, seal.close("cart", value)) is None
    assert cart_from_cookie(seal, seal.close("notice", [["oak-board", 1]])) is None


async def test_the_fullest_cart_fits_into_a_cookie() -> None:
    chance = random.Random(1)
    letters = string.ascii_lowercase + string.digits
    lines = (CartLine("".join(chance.choices(letters, k=64)), 20) for _ in range(MAX_LINES))
    assert len(cart_to_cookie(Seal(SECRET), Cart(tuple(lines)))) < 3800


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/orders?cursor=a%20b", "/orders?cursor=a%20b"),
        ("/", "/"),
        (None, "/"),
        ("", "/"),
        ("orders", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example/", "/"),
        ("/a b", "/"),
        ("/a\nlocation: x", "/"),
        ("/" + "a" * 600, "/"),
    ],
)
async def test_only_paths_of_this_shop_are_gone_to(wanted: str | None, path: str) -> None:
    assert local_path(wanted) == path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/products?cursor=broken", 422),
        ("/products?cursor=" + "x" * 600, 422),
        ("/products?q=" + "x" * 300, 200),
        ("/products?sort=nonsense&category=..%2Fx", 200),
        ("/products/UPPER", 404),
        ("/products/" + "x" * 65, 404),
        ("/pictures/oak-board.png", 404),
        ("/pictures/..%2Fx.svg", 404),
        ("/%00", 404),
        ("/static/..%2f..%2fsettings.py", 404),
        ("/static/nothing.css", 404),
        ("/checkout", 200),
        ("/products?q=%ff%fe", 200),
    ],
)
async def test_bad_addresses_get_a_clear_answer(visitor: Visitor, path: str, status: int) -> None:
    assert (await visitor.get(path)).status == status


@pytest.mark.parametrize("quantity", ["-1", "1e3", "abc", "", "999999999999", "\u0663"])
async def test_a_nonsense_quantity_does_no_harm(visitor: Visitor, quantity: str) -> None:
    form = (await visitor.get("/products/oak-board")).form("/cart")
    page = await visitor.send(form, quantity=quantity)
    assert page.status == 200


async def test_a_huge_form_is_refused(visitor: Visitor) -> None:
    form = (await visitor.get("/products/oak-board")).form("/cart")
    page = await visitor.send(form, note="x" * 300_000)
    assert page.status == 413
    page = await visitor.send(form, **{f"field{n}": "x" for n in range(100)})
    assert page.status == 400
    assert "We did not understand that" in page.text


async def test_a_wrong_method_is_said_to_be_wrong(visitor: Visitor) -> None:
    page = await visitor.post("/products")
    assert page.status == 405
    assert page.headers["allow"] == "GET, HEAD"
