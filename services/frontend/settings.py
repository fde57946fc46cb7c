"""Settings of the frontend, in addition to those of every process."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from services.common.settings import Settings
from services.frontend.mesh_page.sources import WatchedProcess


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("it should be like https://shop.example")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the shop has a host of its own: https://shop.example, with no path")
    return f"{parts.scheme}://{parts.netloc}"


def _like(example: str) -> AfterValidator:
    """Takes the address of a server, with a path or without."""

    def checked(url: str) -> str:
        parts = urlsplit(url)
        is_http = parts.scheme in {"http", "https"} and parts.hostname
        if not is_http or parts.query or parts.fragment:
            raise ValueError(f"it should be like {example}")
        return url.rstrip("/")

    return AfterValidator(checked)


_PrometheusUrl = Annotated[str, _like("http://prometheus.observability:9090")]
_JaegerUrl = Annotated[str, _like("http://127.0.0.1:16686")]


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
    shop_processes: tuple[WatchedProcess, ...] = Field(
        default=(),
        description="The processes of a shop on one machine, as its runner tells: the mesh page "
        "asks each of them what it has done.",
    )
    prometheus_url: _PrometheusUrl | None = Field(
        default=None,
        description="Where the mesh page asks what all replicas have done, such as "
        "http://prometheus.observability:9090. Without it, it shows what this frontend has seen.",
    )
    prometheus_selector: str = Field(
        default="",
        description="What singles this shop out where one Prometheus has several, such as "
        'namespace="ecommerce".',
        pattern=r"^([a-zA-Z_][a-zA-Z0-9_]*=\"[^\"\\{}]*\",?)*$",
    )
    jaeger_url: _JaegerUrl | None = Field(
        default=None,
        description="Where people's browsers find Jaeger, such as http://127.0.0.1:16686: trace "
        "ids on pages link to it.",
    )
    serve_api: bool = Field(
        default=False,
        description="Answer /api/** here. True on one machine; in the cluster the gateway does it.",
    )
