"""A mail server that remembers which mails it got about orders, and the codes of links, but nothing
else that is in them.

It speaks just enough SMTP (RFC 5321): aiosmtpd would take more than twice the processor time of all
else that the workload does.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from email import message_from_bytes
from sys import intern
from typing import NamedTuple, Self, cast

_ORDER_ID = re.compile(rb"ord_[a-z2-7]{24}")
_CODE = re.compile(rb"/confirm#([\w-]+)")
_RECIPIENT = re.compile(rb"(?i)RCPT TO:<([^>]+)>")
_END = b"\r\n.\r\n"
# How the subject of each kind ends.
_KINDS = {
    "is confirmed": "order-confirmed",
    "was cancelled": "order-cancelled",
    "was not placed": "order-not-placed",
    "is not paid back yet": "order-refund-failed",
    "is on its way": "shipment-dispatched",
    "was delivered": "shipment-delivered",
}


class Mail(NamedTuple):
    """What tells mails apart, as far as it can be read in the mail itself."""

    order_id: str
    kind: str
    recipient: str
    message_id: str


class MailSink:
    """Listens on a free port of the loopback interface while it is entered.

    :ivar codes: of the last link by recipient, with which that one confirms the address.
    """

    def __init__(self) -> None:
        self.codes: dict[str, str] = {}
        self._counts: Counter[Mail] = Counter()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self._take), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def environment(self) -> Mapping[str, str]:
        """The settings with which a shop sends its mails here."""
        host, port = self._server.sockets[0].getsockname()
        return {"SMTP_HOST": host, "SMTP_PORT": str(port), "SMTP_STARTTLS": "false"}

    def mails(self) -> frozenset[Mail]:
        """All different mails about orders."""
        return frozenset(self._counts)

    @property
    def repeats(self) -> int:
        """How many mails came that had come before: across a crash, SMTP cannot do better."""
        return self._counts.total() - len(self._counts)

    def _take(self, recipient: bytes, content: bytes) -> None:
        mail = message_from_bytes(content)
        text = mail.get_payload(decode=True)
        assert isinstance(text, bytes), "the shop's mails have one part"
        if code := _CODE.search(text):
            self.codes[recipient.decode()] = code[1].decode()
            return
        order_id = _ORDER_ID.search(text)
        subject = str(mail["Subject"])
        kind = next((kind for ending, kind in _KINDS.items() if subject.endswith(ending)), subject)
        self._counts[
            Mail(
                order_id[0].decode() if order_id else "",
                intern(kind),
                intern(recipient.decode()),
                str(mail["Message-ID"]).strip(),  # it may stand on a line of its own
            )
        ] += 1


class _Session(asyncio.Protocol):
    """One client's connection.

    :param take: called with each recipient and the content of each mail before it is acknowledged.
    """

    def __init__(self, take: Callable[[bytes, bytes], None]) -> None:
        self._take = take
        self._unread = b""
        self._recipients: list[bytes] = []
        self._is_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._answer(b"220 sink")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while True:
            end = _END if self._is_content else b"\r\n"
            read, found, rest = self._unread.partition(end)
            if not found:
                return
            self._unread = rest
            if self._is_content:
                self._end_content(read)
            else:
                self._obey(read)

    def _end_content(self, content: bytes) -> None:
        for recipient in self._recipients:
            self._take(recipient, content)
        self._is_content, self._recipients = False, []
        self._answer(b"250 OK")

    def _obey(self, line: bytes) -> None:
        match line[:4].upper():
            case b"EHLO" | b"HELO" | b"MAIL" | b"RSET" | b"NOOP":
                self._recipients = []
                self._answer(b"250 OK")
            case b"RCPT" if recipient := _RECIPIENT.match(line):
                self._recipients.append(recipient[1])
                self._answer(b"250 OK")
            case b"DATA":
                self._is_content = True
                self._answer(b"354 Go ahead")
            case b"QUIT":
                self._answer(b"221 Bye")
                self._transport.close()
            case _:
                self._answer(b"502 Not here")

    def _answer(self, line: bytes) -> None:
        self._transport.write(line + b"\r\n")
