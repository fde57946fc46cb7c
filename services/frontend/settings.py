"""What the frontend can be told, beside what every process can."""

from __future__ import annotations

from pydantic import Field, SecretStr

from services.common.settings import Settings


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
    serve_api: bool = Field(
        default=False,
        description="Answer /api/** here. True on one machine; in the cluster the gateway does it.",
    )
