"""Accounts and sessions: who a visitor is, and for how long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from services.common.errors import Kind, ShopError
from tests.testkit.customer import address_fields
from tests.testkit.visitor import Visitor
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import ADA, CODE, MAX_LINK_MAILS, PASSWORD, WEAK_PASSWORD, Backends

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACCESS, REFRESH, DEVICE = "meshmart-access", "meshmart-refresh", "meshmart-device"


async def test_registering_logs_in(visitor: Visitor) -> None:
    page = await visitor.get("/register?next=/products")
    page = await visitor.send(
        page.form("/register"),
        name="Grace Hopper",
        email="Grace@Example.com",
        password="correct horse battery",
    )
    assert page.path == "/products"
    assert "Welcome to Meshmart, Grace Hopper." in page.text
    assert "grace@example.com" in (await visitor.get("/profile")).text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": ""}, "Enter your name."),
        ({"name": "a\u0000b"}, "invisible characters"),
        ({"name": "\u200b"}, "At least one character that can be seen is needed."),
        ({"name": "ada.example.com"}, "A name holds no web address"),
        ({"email": "no address"}, "Enter an e-mail address like"),
        ({"password": "short"}, "Use at least 10 characters."),
        ({"password": "x" * 201}, "Use at most 200 characters."),
        ({"email": "taken@example.com"}, "an account with this e-mail address already"),
    ],
)
async def test_a_registration_says_what_to_change(
    visitor: Visitor, fields: dict[str, str], told: str
) -> None:
    typed = {"name": "Ada", "email": "new@example.com", "password": "correct horse battery"}
    page = await visitor.get("/register")
    page = await visitor.send(page.form("/register"), **{**typed, **fields})
    assert page.status in {409, 422}
    assert told in page.text
    assert visitor.cookie(REFRESH) is None


async def test_a_wrong_password_says_no_more_than_that(visitor: Visitor) -> None:
    page = await visitor.get("/login")
    page = await visitor.send(page.form("/login"), email="ada@example.com", password="wrong")
    assert page.status == 401
    assert "do not match" in page.text
    assert "wrong" not in page.html.replace("field-wrong", "")


@pytest.mark.parametrize(
    "onward",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb"],
)
async def test_nobody_is_sent_away_from_the_shop(visitor: Visitor, onward: str) -> None:
    page = await visitor.get("/login")
    form = page.form("/login")
    form.fields["next"] = onward
    page = await visitor.send_only(form, email="ada@example.com", password="correct horse battery")
    assert page.status == 303
    assert page.headers["location"] == "/"


async def test_tokens_stay_out_of_reach_of_scripts(visitor: Visitor) -> None:
    page = await visitor.get("/login")
    page = await visitor.send_only(
        page.form("/login"),
        email="ada@example.com",
        password="correct horse battery",
    )
    cookies = [value for name, value in page.headers.items() if name.lower() == "set-cookie"]
    assert len(cookies) >= 3
    assert all("HttpOnly" in cookie and "SameSite=lax" in cookie for cookie in cookies)


async def test_over_https_cookies_are_bound_to_the_host(
    start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
) -> None:
    page = await new_visitor(await start_frontend(secure=True)).get("/")
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-meshmart-visit=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert page.headers["strict-transport-security"] == "max-age=31536000"


async def test_an_expired_session_is_renewed_without_a_word(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    before = visitor.cookie(REFRESH)
    assert "Ada Lovelace" in (await visitor.get("/profile")).html
    assert visitor.cookie(REFRESH) != before


async def test_requests_that_come_together_renew_once(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    pages = await asyncio.gather(*(visitor.get("/profile") for _ in range(5)))
    assert [page.path for page in pages] == ["/profile"] * 5
    assert len(backends.replaced_tokens) == 1


async def test_an_ended_session_is_a_guest(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    backends.refresh_tokens.clear()
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    page = await visitor.get("/profile")
    assert page.path == "/login?next=/profile"
    assert not visitor.cookie(REFRESH)


@pytest.mark.parametrize("token", ["x", "a.b.c", "forged"])
async def test_a_forged_token_is_nobody(visitor: Visitor, backends: Backends, token: str) -> None:
    if token == "forged":
        stranger = Backends()
        stranger.reset()
        token = stranger.access_token()
    visitor.set_cookie(ACCESS, token)
    assert (await visitor.get("/orders")).path == "/login?next=/orders"
    assert not backends.calls_of("GET /api/orders")


async def test_a_token_that_a_service_refuses_ends_in_a_log_in_and_no_loop(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    backends.distrustful = {"order"}
    page = await visitor.get("/orders")
    assert page.path == "/login?next=/orders"
    assert "Please log in to continue." in page.text
    assert not visitor.cookie(REFRESH)


async def test_logging_out_ends_the_session_everywhere(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    page = await visitor.get("/profile")
    page = await visitor.send(page.form("/logout"))
    assert "You are logged out." in page.text
    assert not backends.refresh_tokens
    assert not visitor.cookie(ACCESS)
    assert (await visitor.get("/profile")).path == "/login?next=/profile"


async def test_a_browser_is_known_again_after_the_log_out(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    first = visitor.cookie(DEVICE)
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    page = await visitor.get("/profile")
    renewed = visitor.cookie(DEVICE)
    assert renewed != first
    await visitor.send(page.form("/logout"))
    assert visitor.cookie(DEVICE) == renewed
    await visitor.log_in(ADA)
    bodies = [json.loads(seen.body) for seen in backends.calls_of("POST /api/auth/login")]
    assert "device_token" not in bodies[0]  # `auth` of before takes none
    assert bodies[1]["device_token"] == renewed


@pytest.mark.parametrize(
    ("path", "code", "retry_after_seconds", "told"),
    [
        ("/login", "too-many-attempts", 30, "Too many attempts. Please wait 30 seconds and try"),
        ("/login", "too-many-attempts", 900, "Too many attempts. Please wait 15 minutes and try"),
        ("/login", "too-many-attempts", 0, "Too many attempts. Please wait 0 seconds and try"),
        ("/login", "too-many-attempts", None, "Too many attempts. Please wait 60 seconds and try"),
        ("/login", "log-in-busy", 1, "Logging in is taking a short break."),
        ("/register", "log-in-busy", 1, "Opening accounts is taking a short break."),
    ],
)
async def test_whose_attempts_were_too_many_is_not_mistaken(
    visitor: Visitor,
    backends: Backends,
    path: str,
    code: str,
    retry_after_seconds: float | None,
    told: str,
) -> None:
    page = await visitor.get(path)
    backends.entrance_refusal = ShopError(
        Kind.THROTTLED, code, "Not now.", retry_after_seconds=retry_after_seconds
    )
    fields = {"name": "Ada", "email": "ada@example.com", "password": "correct horse battery"}
    page = await visitor.send(page.form(path), **fields)
    assert page.status == 429
    assert told in page.text


async def test_auth_is_told_where_a_visitor_is(
    visitor: Visitor,
    backends: Backends,
    start_frontend: StartFrontend,
    new_visitor: Callable[[str], Visitor],
) -> None:
    behind_a_proxy = new_visitor(await start_frontend(proxies_in_front=1))
    fields = {
        "name": "Ada",
        "email": "ada@example.com",
        "password": "correct horse",
        "code": CODE,
        "new_password": "a battery that staples",
    }
    for path, called in {
        "/login": "login",
        "/register": "register",
        "/forgot": "password/mail",
        "/password": "password/reset",
    }.items():
        for each in (visitor, behind_a_proxy):
            form = (await each.get(path)).form(path)
            await each.post(
                path, {**form.fields, **fields}, {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}
            )
            each.session.cookie_jar.clear()
        seen = backends.calls_of(f"POST /api/auth/{called}")
        addresses = [each.headers["x-forwarded-for"] for each in seen]
        assert addresses == ["127.0.0.1", "198.51.100.7"], path
    backends.mail = "waiting"
    await visitor.log_in(ADA)
    form = (await visitor.get("/profile")).form("/profile/confirm")
    await visitor.send(form)
    form = (await visitor.get("/profile")).form("/profile/password")
    await visitor.send(form, password=PASSWORD, new_password="a battery that staples")
    for called in ("address/mail", "password"):
        (one,) = backends.calls_of(f"POST /api/auth/{called}")
        assert one.headers["x-forwarded-for"] == "127.0.0.1"


async def test_a_token_from_before_a_renewal_is_worth_nothing_after_the_log_out(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    first = visitor.cookie(REFRESH)
    assert first is not None
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    page = await visitor.get("/profile")
    assert visitor.cookie(REFRESH) != first
    await visitor.send(page.form("/logout"))
    visitor.set_cookie(REFRESH, first)
    assert (await visitor.get("/profile")).path == "/login?next=/profile"


async def test_a_session_that_is_ended_elsewhere_is_not_renewed_from_memory(
    visitor: Visitor, backends: Backends
) -> None:
    """Another process of the frontend, or whoever uses the API, ends it at auth alone."""
    await visitor.log_in(ADA)
    first = visitor.cookie(REFRESH)
    assert first is not None
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    assert (await visitor.get("/profile")).path == "/profile"
    backends.refresh_tokens.clear()
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    visitor.set_cookie(REFRESH, first)
    assert (await visitor.get("/profile")).path == "/login?next=/profile"


async def test_logging_out_works_while_auth_is_away(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    page = await visitor.get("/profile")
    backends.down = {"auth"}
    page = await visitor.send(page.form("/logout"))
    assert "You are logged out on this device." in page.text
    assert not visitor.cookie(REFRESH)


async def test_forms_from_before_a_log_in_no_longer_count(visitor: Visitor) -> None:
    before = (await visitor.get("/products/oak-board")).form("/cart")
    await visitor.log_in(ADA)
    assert (await visitor.send(before)).status == 403


async def test_joining_the_beta_programme_counts_at_once(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    page = await visitor.get("/profile")
    page = await visitor.send(page.form("/profile/beta", beta="join"))
    assert "You are in the beta programme now." in page.text
    backends.seen.clear()
    await visitor.get("/products")
    (seen,) = backends.calls_of("GET /api/products")
    assert seen.headers["x-user-group"] == "beta"
    assert seen.headers["user-id"] == "usr_ada"
    page = await visitor.send((await visitor.get("/profile")).form("/profile/beta", beta="leave"))
    assert "You have left the beta programme." in page.text


async def test_profile_and_address_book(visitor: Visitor) -> None:
    await visitor.log_in(ADA)
    page = await visitor.get("/profile")
    refused = await visitor.send(page.form("/profile"), full_name="\u200b")
    assert (refused.status, "that can be seen is needed." in refused.text) == (422, True)
    refused = await visitor.send(
        page.form("/profile/addresses"), **address_fields(name="ada.example.com")
    )
    assert (refused.status, "A name holds no web address" in refused.text) == (422, True)
    page = await visitor.send(page.form("/profile"), full_name="Ada King")
    assert "Your name is saved." in page.text
    page = await visitor.send(page.form("/profile/addresses"), **address_fields(city="Delft"))
    assert "1015 CJ Delft" in page.text
    page = await visitor.send(page.form("/profile/addresses/delete", address_id="adr_0"))
    assert "Delft" not in page.text


def message(**changes: Any) -> dict[str, Any]:
    """A message as the notification service answers it."""
    return {
        "id": "m1",
        "subject": "Your order is confirmed",
        "text": "Hello Ada,\nthank you.",
        "created_at": "2026-11-23T20:15:00Z",
        "is_held": False,
        **changes,
    }


async def test_the_inbox(visitor: Visitor, backends: Backends) -> None:
    backends.messages = [message(kind="order-confirmed", order_id="ord_1")]
    await visitor.log_in(ADA)
    page = await visitor.get("/inbox")
    assert "Your order is confirmed" in page.text
    assert ("a", {"href": "/orders/ord_1"}) in page.tags


async def test_the_inbox_says_that_mails_wait_for_the_confirmation(
    visitor: Visitor, backends: Backends
) -> None:
    backends.mail = "waiting"
    backends.messages = [message(is_held=True)]
    await visitor.log_in(ADA)
    page = await visitor.get("/inbox")
    assert "Mails to ada@example.com wait" in page.text
    assert "Not mailed: your address is not confirmed" in page.text
    page = await visitor.send(page.form("/profile/confirm"))
    assert page.path == "/inbox"
    assert "A mail with a link is on its way to ada@example.com." in page.text
    assert backends.link_mails == [("address", "ada@example.com")]


async def test_an_address_is_confirmed_with_the_mailed_code(
    visitor: Visitor, backends: Backends
) -> None:
    backends.mail = "waiting"
    await visitor.log_in(ADA)
    assert "not confirmed yet" in (await visitor.get("/profile")).text
    page = await visitor.get("/confirm")
    refused = await visitor.send(page.form("/confirm"), code="another")
    assert (refused.status, "This code is wrong, or it is no longer valid." in refused.text) == (
        422,
        True,
    )
    assert '<a href="/inbox">Ask for another in your inbox</a>' in refused.html
    page = await visitor.send(page.form("/confirm"), code=f" {CODE} ")
    assert (page.path, "is confirmed" in page.text) == ("/inbox", True)
    assert "wait" not in page.text
    assert "not confirmed yet" not in (await visitor.get("/profile")).text


async def test_a_guest_may_confirm_too(visitor: Visitor) -> None:
    page = await visitor.get("/confirm")
    assert '<a href="/inbox">Ask for another in your inbox</a>' in page.html, "after the log-in"
    page = await visitor.send(page.form("/confirm"), code=CODE)
    assert (page.path, "is confirmed" in page.text) == ("/", True)


async def test_an_opened_link_alone_confirms_nothing(visitor: Visitor, backends: Backends) -> None:
    """Programs that look into mails open links, too."""
    await visitor.get("/confirm")
    await visitor.get("/password")
    assert not [seen for seen in backends.seen if seen.operation.startswith("POST")]


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
async def test_a_forgotten_password_is_answered_alike_for_everybody(
    visitor: Visitor, backends: Backends, email: str
) -> None:
    page = await visitor.get("/login")
    assert ("a", {"href": "/forgot"}) in page.tags
    page = await visitor.send((await visitor.get("/forgot")).form("/forgot"), email=email)
    assert page.path == "/login"
    assert "If there is an account with this e-mail address, a mail" in page.text
    assert email not in page.text
    assert backends.link_mails == [("password", email)]


async def test_too_many_mails_are_refused_in_words(visitor: Visitor, backends: Backends) -> None:
    form = (await visitor.get("/forgot")).form("/forgot")
    for _ in range(MAX_LINK_MAILS):
        await visitor.send(form, email="ada@example.com")
    page = await visitor.send(form, email="ada@example.com")
    assert (page.status, "Too many mails. (90 seconds)" in page.text) == (429, True)


async def test_a_password_is_set_with_the_mailed_code(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    form = (await visitor.get("/password")).form("/password")
    for fields, told in (
        (
            {"code": "another", "new_password": "a battery that staples"},
            "wrong, or it is no longer valid",
        ),
        ({"code": "", "new_password": "a battery that staples"}, "Enter the code from the mail."),
        ({"code": CODE, "new_password": "short"}, "Use at least 10 characters."),
        ({"code": CODE, "new_password": WEAK_PASSWORD}, "Everybody would try that."),
    ):
        refused = await visitor.send(form, **fields)
        assert (refused.status, told in refused.text) == (422, True), told
        assert fields["new_password"] not in refused.html or not fields["new_password"]
    page = await visitor.send(form, code=CODE, new_password="a battery that staples")
    assert page.path == "/login"
    assert "Your new password is set." in page.text
    assert not backends.refresh_tokens
    assert not visitor.cookie(REFRESH)


async def test_a_password_is_changed_and_all_other_sessions_end(
    visitor: Visitor, base_url: str, new_visitor: Callable[[str], Visitor], backends: Backends
) -> None:
    elsewhere = new_visitor(base_url)
    await elsewhere.log_in(ADA)
    await visitor.log_in(ADA)
    before = visitor.cookie(REFRESH)
    page = await visitor.get("/profile")
    form = page.form("/profile/password")
    page = await visitor.send(form, password=PASSWORD, new_password="a battery that staples")
    assert "Your password is changed." in page.text
    assert "logged out within 15 minutes" in page.text, "when their access tokens have expired"
    assert visitor.cookie(REFRESH) != before
    visitor.set_cookie(ACCESS, backends.access_token(exp=1))
    assert (await visitor.get("/profile")).path == "/profile"
    elsewhere.set_cookie(ACCESS, backends.access_token(exp=1))
    assert (await elsewhere.get("/profile")).path == "/login?next=/profile"


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"password": "wrong horse battery"}, 401, "This is not your password."),
        ({"password": ""}, 422, "Enter your password."),
        ({"new_password": "short"}, 422, "Use at least 10 characters."),
        ({"new_password": WEAK_PASSWORD}, 422, "Everybody would try that."),
        ({"new_password": PASSWORD}, 422, "This is the password that you have."),
    ],
)
async def test_a_change_of_the_password_says_what_is_wrong(
    visitor: Visitor, backends: Backends, fields: dict[str, str], status: int, told: str
) -> None:
    await visitor.log_in(ADA)
    form = (await visitor.get("/profile")).form("/profile/password")
    typed = {"password": PASSWORD, "new_password": "a battery that staples"}
    page = await visitor.send(form, **{**typed, **fields})
    assert (page.status, told in page.text) == (status, True)
    assert backends.refresh_tokens


async def test_a_name_from_right_to_left_moves_nothing_around_it(
    visitor: Visitor, backends: Backends
) -> None:
    hebrew = "\u05d0\u05d3\u05d4"
    page = await visitor.get("/register")
    page = await visitor.send(
        page.form("/register"), name=hebrew, email="new@example.com", password=PASSWORD
    )
    assert f"Welcome to Meshmart, \u2068{hebrew}\u2069." in page.text
    assert page.html.count(f"\u2068{hebrew}\u2069") == 2, "in the greeting and in the header"
    backends.addresses = [{**address_fields(name=f"\u202e{hebrew}", city=hebrew), "id": "adr_0"}]
    page = await visitor.get("/profile")
    assert f"\u2068{hebrew}\u2069<br>" in page.html
    assert f"1015 CJ \u2068{hebrew}\u2069" in page.html
    page = await visitor.get(f"/products?q=\u202e{hebrew}")
    assert f"Results for “\u2068{hebrew}\u2069”" in page.text
    assert f"<title>“\u2068{hebrew}\u2069” · Meshmart</title>" in page.html
