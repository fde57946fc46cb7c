"""Which proxy a call takes that leaves the shop."""

from __future__ import annotations

import pytest

from services.common.proxies import proxy_for

STRIPE = "https://api.stripe.com"
PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, STRIPE, None),
        ({"https_proxy": PROXY}, STRIPE, PROXY),
        ({"HTTPS_PROXY": PROXY}, STRIPE, PROXY),
        ({"https_proxy": "proxy.example:3128"}, STRIPE, PROXY),
        ({"http_proxy": PROXY}, STRIPE, None),
        ({"http_proxy": PROXY}, "http://api.stripe.com", PROXY),
        ({"all_proxy": PROXY}, STRIPE, PROXY),
        ({"https_proxy": PROXY, "no_proxy": "stripe.com"}, STRIPE, None),
        ({"https_proxy": PROXY, "no_proxy": "example.com, .stripe.com"}, STRIPE, None),
        ({"https_proxy": PROXY, "no_proxy": "*"}, STRIPE, None),
        ({"https_proxy": PROXY, "no_proxy": "tripe.com"}, STRIPE, PROXY),
        ({"http_proxy": PROXY}, "http://127.0.0.1:8090", None),
        ({"http_proxy": PROXY}, "http://[::1]:8090", None),
        ({"http_proxy": PROXY}, "http://localhost:8090", None),
        ({"http_proxy": PROXY}, "http://stripe-sandbox.stripe:12111", PROXY),
    ],
)
def test_it_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy
