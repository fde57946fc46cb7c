"""What the frontend can be told, beside what every process can."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from services.common.settings import Settings


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("it should be like https://shop.example")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the shop has a host of its own: https://shop.example, with no path")
    return f"{parts.scheme}://{parts.netloc}"


class FrontendSettings(Settings):
    """The frontend's own settings."""

    frontend_secret: SecretStr = Field(
        min_length=32,
        description="Signs carts, notices and form tokens. All replicas of the frontend share one.",
    )
    secure_cookies: bool = Field(
        default=False,
        description="True where the shop is served over https: cookies get `Secure` and `__Host-`.",
    )
    shop_url: Annotated[str, AfterValidator(_origin)] | None = Field(
        default=None,
        description="Where people find the shop, such as https://shop.example: for canonical "
        "links, previews of links and the sitemap. Without it the host of each request counts.",
    )
    serve_api: bool = Field(
        default=False,
        description="Answer /api/** here. True on one machine; in the cluster the gateway does it.",
    )
