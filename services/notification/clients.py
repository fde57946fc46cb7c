"""The mail server, or the folder that stands for it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from functools import partial
from pathlib import Path

import aiosmtplib

from services.common.errors import Kind, ShopError
from services.common.forward_proxy import open_tunnel, proxy_for, without_credentials
from services.notification.model import Message
from services.notification.settings import NotificationSettings


class Mailer:
    """Sends messages over SMTP (RFC 5321), or writes them into a folder.

    :raises ConfigurationError: the environment names something for mail that is no HTTP proxy.
    """

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings
        self._proxy = _proxy_to(settings.smtp_host, settings.port)

    @property
    def is_configured(self) -> bool:
        """Whether mails go anywhere."""
        return self._settings.smtp_host is not None or self._settings.mail_folder is not None

    @property
    def shop_url(self) -> str:
        """What the links in mails begin with."""
        return self._settings.shop_url

    @property
    def timeout_seconds(self) -> float:
        """The longest that sending one mail takes."""
        return self._settings.smtp_timeout_seconds

    async def send(self, message: Message) -> None:
        """Hands one message to the mail server.

        :raises ShopError: INVALID when the server refuses the mail or its recipient for good (5yz);
            UNAVAILABLE when trying again makes sense, as it does when the server refuses the shop:
            that is for its operator to mend.
        """
        settings = self._settings
        try:
            mail = _mail(message, settings.smtp_sender)
            if settings.smtp_host is None:
                assert settings.mail_folder is not None, "only a mailer that is configured is used"
                await asyncio.to_thread(_write, mail, settings.mail_folder)
                return
            async with asyncio.timeout(self.timeout_seconds):  # in all; aiosmtplib's is per command
                tunnel = await self._tunnel(settings.smtp_host)
                await aiosmtplib.send(
                    mail,
                    hostname=settings.smtp_host,  # whom the certificate has to name
                    port=None if tunnel else settings.port,
                    sock=tunnel,
                    username=settings.smtp_username,
                    password=settings.smtp_password.get_secret_value()
                    if settings.smtp_password
                    else None,
                    use_tls=settings.smtp_implicit_tls,
                    start_tls=settings.smtp_starttls and not settings.smtp_implicit_tls,
                    timeout=self.timeout_seconds,
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            for_good = all(refused.code >= 500 for refused in error.recipients)
            raise self._failure(for_good=for_good) from error
        except aiosmtplib.SMTPDataError as error:
            raise self._failure(for_good=error.code >= 500) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._failure(for_good=False) from error
        except (ValueError, HeaderParseError) as error:  # what cannot stand in a mail's header
            raise self._failure(for_good=True) from error

    async def _tunnel(self, host: str) -> socket.socket | None:
        if self._proxy is None:
            return None
        return await open_tunnel(self._proxy, host, self._settings.port)

    def _failure(self, *, for_good: bool) -> ShopError:
        if for_good:
            return ShopError(Kind.INVALID, "mail-refused", "The mail server refuses this message.")
        way = f" through the proxy {without_credentials(self._proxy)}" if self._proxy else ""
        return ShopError(
            Kind.UNAVAILABLE, "mail-unavailable", f"The mail server cannot be reached{way}."
        )


def _proxy_to(host: str | None, port: int) -> str | None:
    if host is None:
        return None
    return proxy_for(f"smtp://[{host}]:{port}" if ":" in host else f"smtp://{host}:{port}")


def _mail(message: Message, sender: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = sender
    mail["To"] = _addressee(message)
    # The same message keeps its id, so that a mail sent twice (after a crash in between) can be
    # told as one.
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail["Message-ID"] = f"<{message.id.replace(':', '.')}@{domain}>"
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.created_ms / 1000, UTC))
    mail.set_content(message.mail_text or message.text)
    return mail


def _write(mail: EmailMessage, folder: Path) -> None:
    """Writes a mail, for the owner's eyes only: a link in it opens an account."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = str(mail["Message-ID"]).strip("<>").rpartition("@")[0]
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.eml"
    with open(path, "wb", opener=partial(os.open, mode=0o600)) as file:
        file.write(bytes(mail))


def _addressee(message: Message) -> Address:
    """Whom the mail is for. A name that holds an encoded word (RFC 2047) is left off: the email
    package would decode it, and a line break in it would begin a header of the customer's own.
    """
    is_plain = message.name.isprintable() and "=?" not in message.name
    return Address(message.name if is_plain else "", addr_spec=message.email)
