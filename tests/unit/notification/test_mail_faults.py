"""Mails of hostile customers, through servers that fail, from several processes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.common.clock import now_ms
from services.common.documents import Documents, SqliteStore
from services.common.errors import ConfigurationError
from services.common.observing.metrics import Metrics
from services.common.settings import read_settings
from services.notification.clients import Mailer
from services.notification.model import (
    ADDRESSES,
    BACKOFF,
    MESSAGES,
    ConfirmedAddress,
    Message,
)
from services.notification.service import Messages
from services.notification.settings import NotificationSettings
from services.notification.store import MessageStore
from tests.testkit.ports import free_port
from tests.unit.notification.examples import an_event
from tests.unit.notification.mail_server import MailServer
from tools.certificate import self_signed

HEADERS = [
    "Subject",
    "From",
    "To",
    "Message-ID",
    "Date",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
]


class SlowServer(MailServer):
    """Has each mail and does not say so until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.reached.set()
        await self.let_go.wait()
        return await super().handle_DATA(server, session, envelope)


class StrictServer(MailServer):
    """Wants to know the shop before it takes mail from it."""

    async def handle_MAIL(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: list[str],
    ) -> str:
        """Called by aiosmtpd for the sender of each mail."""
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        return "250 OK"


def let_in(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword
) -> AuthResult:
    known = LoginPassword(b"shop", b"right")
    return AuthResult(success=login == known, handled=False)


@asynccontextmanager
async def listening(kept: MailServer, port: int = 0, **options: Any) -> AsyncGenerator[None]:
    """Lets a server of one's own making listen."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(kept, loop=loop, **options), "127.0.0.1", port)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


class MailHarness:
    """Any number of processes, each with its own connections to the one database."""

    def __init__(self, database: Path, resources: AsyncExitStack) -> None:
        self.now_seconds = 0.0
        self._database = database
        self._resources = resources

    async def store(self) -> MessageStore:
        """The messages, over a connection of its own."""
        database = SqliteStore(self._database, synchronous="NORMAL")
        self._resources.push_async_callback(database.close)
        store = MessageStore(
            await Documents.open(database, MESSAGES, Message),
            await Documents.open(database, ADDRESSES, ConfirmedAddress),
        )
        await store.confirm_address(
            ConfirmedAddress(id="usr_ada", email="ada@example.com", confirmed_ms=1)
        )
        return store

    async def process(self, port: int | None, **changes: Any) -> Messages:
        """One more process, which mails through the server at that port, or at the usual one."""
        settings: dict[str, Any] = {
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_starttls": False,
            "smtp_timeout_seconds": 5.0,
            **changes,
        }
        mailer = Mailer(NotificationSettings(**settings))
        return Messages(await self.store(), mailer, Metrics(), clock=lambda: self.now_seconds)

    async def message(self) -> Message:
        """The only message there is."""
        store = await self.store()
        (stored,) = (await store.of_user("usr_ada", 2, None)).items
        return stored.value

    async def make_due(self) -> None:
        """Lets the pauses of all waiting mails be over."""
        store = await self.store()
        for stored in await store.unsent(now_ms() + BACKOFF.longest_ms, BACKOFF.longest_ms, 100):
            await store.save(stored, stored.value.model_copy(update={"due_ms": now_ms()}))

    async def skew(self, seconds: int) -> None:
        """Lets the pauses of all waiting mails be those of a process with such a clock."""
        store = await self.store()
        for stored in await store.unsent(now_ms() + BACKOFF.longest_ms, BACKOFF.longest_ms, 100):
            assert stored.value.due_ms is not None
            due_ms = stored.value.due_ms + seconds * 1000
            await store.save(stored, stored.value.model_copy(update={"due_ms": due_ms}))


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncGenerator[MailHarness]:
    async with AsyncExitStack() as resources:
        yield MailHarness(tmp_path / "notification.db", resources)


@pytest.mark.parametrize(
    "name",
    [
        "=?utf-8?q?=0D=0ABcc:_eve@example.com?=",
        "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=",
        '=?x?q?=0D=0ABcc:_eve@example.com,?= "',
        "=?x?q?=0D=0A=0D=0AYou_have_won?=..",
        "=?us-ascii*en?q?=0D=0A:,=22",
        "=?utf-8?q?=22_=3Ceve@example.com=3E=2C?=",
        "=?utf-8?b?=22",
        "=?utf-8?b?=3C'?=",
        "é, eve@example.com,",
        'é" <eve@example.com>, "',
        "Ada\r\nBcc: eve@example.com",
        "Ada\u2028Bcc: eve@example.com",
        "\\",
    ],
)
async def test_a_name_adds_no_header_and_no_recipient(
    harness: MailHarness, server: MailServer, name: str
) -> None:
    messages = await harness.process(server.port)
    await messages.notify(an_event(name=name))
    await messages.send_mails()
    (mail,) = server.mails
    assert mail.keys() == HEADERS
    assert [address.addr_spec for address in mail["To"].addresses] == ["ada@example.com"]
    assert server.recipients == [["ada@example.com"]]
    assert mail["To"].addresses[0].display_name in {name, ""}
    assert mail.get_content().splitlines() == (await harness.message()).text.splitlines()


async def test_a_name_with_a_comma_is_still_one(harness: MailHarness, server: MailServer) -> None:
    messages = await harness.process(server.port)
    await messages.notify(an_event(name="King, Martin Luther Jr."))
    await messages.send_mails()
    assert server.mails[0]["To"] == '"King, Martin Luther Jr." <ada@example.com>'


async def test_a_server_that_comes_back_gets_the_mail(harness: MailHarness) -> None:
    server = MailServer()
    port = free_port()
    messages = await harness.process(port)
    await messages.notify(an_event())
    for attempts in (1, 2):
        await messages.send_mails()
        waiting = await harness.message()
        assert (waiting.attempts, waiting.mailed_ms) == (attempts, None)
        await harness.make_due()
    async with listening(server, port):
        await messages.send_mails()
    assert len(server.mails) == 1
    assert (await harness.message()).due_ms is None


@pytest.mark.parametrize(
    "login",
    [
        {"smtp_username": "shop", "smtp_password": "wrong"},
        {"smtp_username": None, "smtp_password": None},
    ],
    ids=["wrong password", "no password"],
)
async def test_no_mail_is_lost_while_the_shop_cannot_log_in(
    harness: MailHarness, login: dict[str, str | None]
) -> None:
    server = StrictServer()
    async with listening(server, authenticator=let_in, auth_require_tls=False):
        messages = await harness.process(server.port, **login)
        await messages.notify(an_event())
        await messages.send_mails()
        waiting = await harness.message()
        assert waiting.attempts == 1
        assert waiting.due_ms is not None
        await harness.make_due()
        mended = await harness.process(server.port, smtp_username="shop", smtp_password="right")
        await mended.send_mails()
        assert len(server.mails) == 1


async def test_nothing_is_sent_in_the_clear_where_tls_is_wanted(harness: MailHarness) -> None:
    server = StrictServer()
    asked: list[str] = []

    def overhear(*arguments: Any) -> AuthResult:
        asked.append(arguments[3])
        return AuthResult(success=True)

    async with listening(server, authenticator=overhear, auth_require_tls=False):
        messages = await harness.process(
            server.port, smtp_starttls=True, smtp_username="shop", smtp_password="right"
        )
        await messages.notify(an_event())
        await messages.send_mails()
    assert (asked, server.mails) == ([], [])
    assert (await harness.message()).due_ms is not None


async def test_tls_may_begin_with_the_first_byte(
    harness: MailHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "localhost.pem"
    certificate.write_bytes(self_signed("localhost").certificate_and_key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    kept = MailServer()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(kept, loop=loop), "127.0.0.1", 0, ssl=tls)
    async with server:
        messages = await harness.process(
            server.sockets[0].getsockname()[1],
            smtp_host="localhost",
            smtp_starttls=True,
            smtp_implicit_tls=True,
        )
        await messages.notify(an_event())
        await messages.send_mails()
    assert len(kept.mails) == 1


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({}, 587),
        ({"smtp_implicit_tls": True}, 465),
        ({"smtp_implicit_tls": True, "smtp_port": 2465}, 2465),
        ({"smtp_port": 25}, 25),
    ],
)
async def test_the_port_is_the_usual_one_unless_it_is_set(
    harness: MailHarness, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], port: int
) -> None:
    asked: list[object] = []

    async def send(*_: object, **options: object) -> None:
        asked.append(options["port"])

    monkeypatch.setattr("services.notification.clients.aiosmtplib.send", send)
    messages = await harness.process(**{"port": None, **settings})
    await messages.notify(an_event())
    await messages.send_mails()
    assert asked == [port]


@asynccontextmanager
async def mail_on_its_way(
    harness: MailHarness,
) -> AsyncGenerator[tuple[SlowServer, asyncio.Task[bool], Messages]]:
    """A server that has a mail and does not say so, the process that sends it, and another."""
    server = SlowServer()
    async with listening(server):
        one, other = await harness.process(server.port), await harness.process(server.port)
        await one.notify(an_event())
        sending = asyncio.create_task(one.send_mails())
        await asyncio.wait_for(server.reached.wait(), 5.0)
        yield server, sending, other


class TestSeveralProcesses:
    async def test_keep_off_a_mail_that_one_of_them_is_sending(self, harness: MailHarness) -> None:
        async with mail_on_its_way(harness) as (server, sending, other):
            await asyncio.wait_for(other.send_mails(), 5.0)
            server.let_go.set()
            await sending
            await other.send_mails()
        assert len(server.mails) == 1

    async def test_share_the_mails_among_them(
        self, harness: MailHarness, server: MailServer
    ) -> None:
        processes = [await harness.process(server.port) for _ in range(3)]
        events = [f"ord_{number}:confirmed" for number in range(12)]
        for event_id in events:
            await processes[0].notify(an_event(event_id=event_id))
        await asyncio.gather(*(process.send_mails() for process in processes))
        expected = [f"<ord_{number}.confirmed@meshmart.example>" for number in range(12)]
        assert sorted(mail["Message-ID"] for mail in server.mails) == sorted(expected)

    async def test_take_over_the_mail_of_one_that_died_sending(self, harness: MailHarness) -> None:
        async with mail_on_its_way(harness) as (server, sending, other):
            sending.cancel()
            server.let_go.set()
            await asyncio.gather(sending, return_exceptions=True)
            claimed = await harness.message()
            assert (claimed.mailed_ms, len(server.mails)) == (None, 1), "it arrived unnoticed"
            assert claimed.is_being_sent
            for _ in range(3):
                await other.send_mails()
                harness.now_seconds += 7.0
            assert len(server.mails) == 1, "whoever has it is given three times 5 s"
            await other.send_mails()
        first, second = server.mails
        assert first["Message-ID"] == second["Message-ID"] == "<ord_1.confirmed@meshmart.example>"
        assert (await harness.message()).mailed_ms is not None

    @pytest.mark.parametrize("seconds", [-300, 300])
    async def test_send_once_and_soon_whatever_their_clocks_say(
        self, harness: MailHarness, seconds: int
    ) -> None:
        """A mail whose pause was written by a clock that is minutes off."""
        server = SlowServer()
        unlucky = await harness.process(free_port())
        await unlucky.notify(an_event())
        await unlucky.send_mails()
        await harness.skew(seconds)
        async with listening(server):
            one, other = await harness.process(server.port), await harness.process(server.port)
            sending = asyncio.create_task(one.send_mails())
            await asyncio.wait_for(server.reached.wait(), 5.0)
            await asyncio.wait_for(other.send_mails(), 5.0)
            server.let_go.set()
            await sending
            await other.send_mails()
        assert len(server.mails) == 1

    async def test_put_a_repeated_event_into_the_inbox_once(self, harness: MailHarness) -> None:
        processes = [await harness.process(free_port()) for _ in range(2)]
        await asyncio.gather(*(processes[number % 2].notify(an_event()) for number in range(20)))
        assert (await harness.message()).id == "ord_1:confirmed"


class TestMailSettings:
    def test_half_a_login_is_refused_with_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMTP_USERNAME", "shop")
        with pytest.raises(ConfigurationError) as refused:
            read_settings(NotificationSettings)
        assert str(refused.value) == (
            "The settings are wrong: SMTP_USERNAME and SMTP_PASSWORD are needed together."
        )

    @pytest.mark.parametrize("sender", ["Meshmart", "shop@", "@meshmart.example", "a@b\nBcc: c@d"])
    def test_a_sender_without_an_address_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, sender: str
    ) -> None:
        monkeypatch.setenv("SMTP_SENDER", sender)
        with pytest.raises(ConfigurationError, match=r"^The setting SMTP_SENDER is wrong: .*\.$"):
            read_settings(NotificationSettings)

    def test_a_password_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMTP_USERNAME", "shop")
        monkeypatch.setenv("SMTP_PASSWORD", "hunter2")
        assert "hunter2" not in repr(read_settings(NotificationSettings))
