"""Settings of the notification service."""

from __future__ import annotations

from email.utils import parseaddr
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from services.common.settings import Settings

_STARTTLS_PORT, _IMPLICIT_TLS_PORT = 587, 465


class NotificationSettings(Settings):
    """Where mail goes. Without `SMTP_HOST` and `MAIL_FOLDER` there is only the inbox."""

    smtp_host: str | None = None
    smtp_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Without it the usual one: 587, or 465 with SMTP_IMPLICIT_TLS.",
    )
    smtp_starttls: bool = True
    smtp_implicit_tls: bool = Field(
        default=False,
        description="TLS from the first byte (RFC 8314 §3.3) instead of STARTTLS.",
    )
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_sender: str = Field(default="Meshmart <shop@meshmart.example>", max_length=200)
    smtp_timeout_seconds: float = Field(default=10.0, gt=0, le=60)

    mail_folder: Path | None = Field(
        default=None,
        description="Without SMTP_HOST: mails become files in this folder, for trying the shop.",
    )
    shop_url: str = Field(
        default="http://127.0.0.1:8080",
        pattern=r"^https?://[^\s/#?]+$",
        description="Where people find the shop: the links in mails begin with it.",
    )

    @property
    def port(self) -> int:
        """The mail server's port."""
        return self.smtp_port or (_IMPLICIT_TLS_PORT if self.smtp_implicit_tls else _STARTTLS_PORT)

    @field_validator("smtp_sender")
    @classmethod
    def _sender_has_an_address(cls, sender: str) -> str:
        local_part, _, domain = parseaddr(sender)[1].rpartition("@")
        if not (local_part and domain and sender.isprintable()):
            raise ValueError("it should be like Meshmart <shop@meshmart.example>")
        return sender

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD are needed together")
        return self
