"""The inbox, and its mails on their way to a real SMTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from email import message_from_bytes
from email.policy import default as default_policy
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.clock import now_ms
from services.common.documents import Documents, SqliteStore
from services.common.errors import ConfigurationError, Kind, ShopError
from services.common.observing.metrics import Metrics
from services.common.settings import read_settings
from services.notification.clients import Mailer
from services.notification.model import (
    ADDRESSES,
    MESSAGES,
    ConfirmedAddress,
    MailState,
    Message,
)
from services.notification.service import Messages
from services.notification.settings import NotificationSettings
from services.notification.store import MessageStore
from tests.testkit.ports import free_port
from tests.unit.common.kit import until
from tests.unit.failure import failure
from tests.unit.notification.examples import a_message, an_event
from tests.unit.notification.mail_server import MailServer

EVENT = "ord_1:confirmed"
ADAS = ConfirmedAddress(id="usr_ada", email="ada@example.com", confirmed_ms=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[MessageStore]:
    database = SqliteStore(tmp_path / "notification.db")
    try:
        store = MessageStore(
            await Documents.open(database, MESSAGES, Message),
            await Documents.open(database, ADDRESSES, ConfirmedAddress),
        )
        await store.confirm_address(ADAS)
        yield store
    finally:
        await database.close()


def mailer(port: int | None, **changes: Any) -> Mailer:
    values: dict[str, Any] = {
        "smtp_host": "127.0.0.1" if port is not None else None,
        "smtp_port": port or 25,
        "smtp_starttls": False,
        "smtp_sender": "Meshmart <shop@meshmart.example>",
        "smtp_timeout_seconds": 5.0,
    }
    return Mailer(NotificationSettings(**{**values, **changes}))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def messages(store: MessageStore, server: MailServer, metrics: Metrics) -> Messages:
    return Messages(store, mailer(server.port), metrics)


async def notify(messages: Messages, event_id: str = EVENT, **changes: Any) -> None:
    await messages.notify(an_event(event_id=event_id, **{"name": "Ada Lovelace", **changes}))


async def inbox(messages: Messages, user_id: str = "usr_ada") -> list[Message]:
    return [stored.value for stored in (await messages.inbox(user_id, 50, None)).items]


async def all_due(messages: Messages) -> None:
    """Returns when it is time to try again."""
    dues_ms = [message.due_ms or 0 for message in await inbox(messages)]
    await until(lambda: now_ms() >= max(dues_ms))


def outcomes(metrics: Metrics) -> set[str]:
    """The lines of the mail counter."""
    lines = metrics.exposition().decode().splitlines()
    return {line for line in lines if line.startswith("meshmart_mails_total{")}


class TestMail:
    async def test_says_what_the_inbox_says(
        self, messages: Messages, server: MailServer, metrics: Metrics
    ) -> None:
        await notify(messages)
        await messages.send_mails()
        (mail,), (message,) = server.mails, await inbox(messages)
        assert mail["Subject"] == message.subject
        assert mail["To"] == "Ada Lovelace <ada@example.com>"
        assert mail["From"] == "Meshmart <shop@meshmart.example>"
        assert mail.get_content().splitlines() == message.text.splitlines()
        assert mail["Message-ID"] == "<ord_1.confirmed@meshmart.example>"
        sent_ms = parsedate_to_datetime(mail["Date"]).timestamp() * 1000
        assert 0 <= message.created_ms - sent_ms < 1000
        assert server.recipients == [["ada@example.com"]]
        assert (message.due_ms, message.attempts) == (None, 0)
        assert message.mailed_ms is not None
        assert outcomes(metrics) == {'meshmart_mails_total{outcome="sent"} 1.0'}

    async def test_is_sent_once(self, messages: Messages, server: MailServer) -> None:
        for _ in range(3):
            await notify(messages)
            await messages.send_mails()
        assert len(server.mails) == 1
        assert len(await inbox(messages)) == 1

    async def test_is_sent_by_one_of_several_processes(
        self, store: MessageStore, server: MailServer
    ) -> None:
        processes = [Messages(store, mailer(server.port), Metrics()) for _ in range(4)]
        for number in range(5):
            await notify(processes[0], f"event:{number}")
        await asyncio.gather(*(process.send_mails() for process in processes))
        assert len(server.mails) == 5

    async def test_many_are_sent_a_hundred_in_a_run(
        self, messages: Messages, server: MailServer
    ) -> None:
        for number in range(120):
            await notify(messages, f"event:{number}")
        assert await messages.send_mails()
        assert not await messages.send_mails()
        assert len(server.mails) == 120

    async def test_keeps_its_id_when_it_is_sent_again(self, server: MailServer) -> None:
        """After a crash between sending and storing that, the same mail comes twice."""
        for _ in range(2):
            await mailer(server.port).send(a_message())
        first, second = server.mails
        assert first["Message-ID"] == second["Message-ID"] == "<ord_1.confirmed@meshmart.example>"

    async def test_may_be_in_any_language(self, messages: Messages, server: MailServer) -> None:
        await notify(messages, name="Zoë Žižek 李")
        await messages.send_mails()
        (mail,) = server.mails
        assert [address.display_name for address in mail["To"].addresses] == ["Zoë Žižek 李"]
        assert mail.get_content().startswith("Hello Zoë Žižek 李,")

    async def test_is_not_reordered_by_a_name(self, messages: Messages, server: MailServer) -> None:
        """A name from right to left moves nothing around it, nor does one with what is refused now:
        an override (U+202E) and an end of the isolate (U+2069).
        """
        await notify(messages, name="\u2069\u05d0\u05d3\u05d4\u202e")
        await messages.send_mails()
        (mail,) = server.mails
        assert mail.get_content().startswith("Hello \u2068\u05d0\u05d3\u05d4\u2069,")

    @pytest.mark.parametrize("answer", ["451 Try again later", "421 Going down"])
    async def test_is_sent_again_after_a_passing_failure(
        self, messages: Messages, server: MailServer, metrics: Metrics, answer: str
    ) -> None:
        server.answers.append(answer)
        await notify(messages)
        await messages.send_mails()
        (waiting,) = await inbox(messages)
        assert (waiting.attempts, waiting.mailed_ms) == (1, None)
        assert waiting.due_ms is not None
        await messages.send_mails()
        assert server.mails == [], "not before its time"
        await all_due(messages)
        await messages.send_mails()
        assert len(server.mails) == 1
        assert outcomes(metrics) == {
            'meshmart_mails_total{outcome="mail-unavailable"} 1.0',
            'meshmart_mails_total{outcome="sent"} 1.0',
        }

    @pytest.mark.parametrize("refused_at", ["answers", "recipient_answers"])
    async def test_is_given_up_when_it_is_refused_for_good(
        self, messages: Messages, server: MailServer, metrics: Metrics, refused_at: str
    ) -> None:
        getattr(server, refused_at).append("550 No such user here")
        await notify(messages)
        await messages.send_mails()
        (message,) = await inbox(messages)
        assert (message.due_ms, message.mailed_ms) == (None, None), "the inbox has it all the same"
        await messages.send_mails()
        assert server.mails == []
        assert outcomes(metrics) == {'meshmart_mails_total{outcome="mail-refused"} 1.0'}

    async def test_is_sent_again_to_a_recipient_who_is_refused_for_now(
        self, messages: Messages, server: MailServer
    ) -> None:
        server.recipient_answers.append("450 Mailbox busy")
        await notify(messages)
        await messages.send_mails()
        (waiting,) = await inbox(messages)
        assert waiting.due_ms is not None

    async def test_does_not_hold_up_the_next_one(
        self, messages: Messages, server: MailServer
    ) -> None:
        server.answers += ["550 No", "451 Later"]
        for number in range(4):
            await notify(messages, f"event:{number}")
        await messages.send_mails()
        assert len(server.mails) == 2

    async def test_is_given_up_after_a_day_of_failures(
        self, messages: Messages, store: MessageStore, server: MailServer, metrics: Metrics
    ) -> None:
        server.answers.append("451 Try again later")
        await notify(messages)
        (stored,) = (await store.of_user("usr_ada", 1, None)).items
        day_old = {"created_ms": stored.value.created_ms - 25 * 3_600_000}
        await store.save(stored, stored.value.model_copy(update=day_old))
        for _ in range(2):
            await messages.send_mails()
        (message,) = await inbox(messages)
        assert (message.due_ms, message.mailed_ms, server.mails) == (None, None, [])
        assert 'meshmart_mails_total{outcome="given-up"} 1.0' in outcomes(metrics)

    async def test_waits_for_a_server_that_is_away(self, store: MessageStore) -> None:
        messages = Messages(store, mailer(free_port()), Metrics())
        await notify(messages)
        await messages.send_mails()
        (waiting,) = await inbox(messages)
        assert waiting.attempts == 1
        assert waiting.due_ms is not None

    async def test_waits_for_a_server_that_does_not_answer(self, store: MessageStore) -> None:
        hung_up = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            hung_up.set()

        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        async with silent:
            port = silent.sockets[0].getsockname()[1]
            messages = Messages(store, mailer(port, smtp_timeout_seconds=0.05), Metrics())
            await notify(messages)
            await messages.send_mails()
            await hung_up.wait()
        (waiting,) = await inbox(messages)
        assert waiting.attempts == 1

    async def test_is_not_sent_where_there_is_no_server(self, store: MessageStore) -> None:
        messages = Messages(store, mailer(None), Metrics())
        await notify(messages)
        await messages.send_mails()
        (message,) = await inbox(messages)
        assert (message.due_ms, message.attempts) == (None, 0)


class TestUnconfirmedAddress:
    """Somebody may have given a stranger's."""

    async def test_gets_no_mail_until_it_is_confirmed(
        self, messages: Messages, server: MailServer, metrics: Metrics
    ) -> None:
        await notify(messages, user_id="usr_eve")
        await messages.send_mails()
        (held,) = await inbox(messages, "usr_eve")
        assert (held.is_held, held.due_ms, server.mails) == (True, None, [])
        assert outcomes(metrics) == {'meshmart_mails_total{outcome="held"} 1.0'}
        await messages.confirm_address("usr_eve", "ada@example.com")
        await messages.send_mails()
        assert [mail["Message-ID"] for mail in server.mails] == [
            "<ord_1.confirmed@meshmart.example>"
        ]
        (sent,) = await inbox(messages, "usr_eve")
        assert (sent.is_held, sent.mailed_ms is None) == (False, False)

    async def test_that_was_corrected_gets_no_mail_of_any_time(
        self, messages: Messages, server: MailServer
    ) -> None:
        """What was held for a mistyped address, and what an order of then says later, goes to the
        one that was confirmed in its place.
        """
        typo = {"user_id": "usr_eve", "email": "typo@example.com"}
        await notify(messages, "held", **typo)
        await messages.send_mails()
        await messages.confirm_address("usr_eve", "eve@example.com")
        await notify(messages, "later", **typo)
        await messages.send_mails()
        assert server.recipients == [["eve@example.com"]] * 2
        assert {one.email for one in await inbox(messages, "usr_eve")} == {"eve@example.com"}

    async def test_that_is_given_later_ends_the_confirmation_before(
        self, messages: Messages, server: MailServer
    ) -> None:
        link = {"kind": "confirm-address", "facts": {"code": "abc-123"}}
        await notify(messages, "link:1", **link)
        assert await messages.mail_state("usr_ada") is MailState.ON, "the same address"
        await notify(messages, "link:2", email="ada@example.org", **link)
        assert await messages.mail_state("usr_ada") is MailState.WAITING
        await notify(messages)
        await messages.send_mails()
        assert sorted(server.recipients) == [["ada@example.com"], ["ada@example.org"]]
        await messages.confirm_address("usr_ada", "ada@example.org")
        await messages.send_mails()
        assert server.recipients[-1] == ["ada@example.org"]
        assert server.mails[-1]["Message-ID"] == "<ord_1.confirmed@meshmart.example>"

    async def test_gets_what_was_held_for_less_than_a_day(
        self, messages: Messages, store: MessageStore, server: MailServer
    ) -> None:
        for number in range(2):
            await notify(messages, f"event:{number}", user_id="usr_eve")
        await messages.send_mails()
        old, _ = (await store.of_user("usr_eve", 2, None)).items
        a_day_ago = {"created_ms": now_ms() - 24 * 3_600_000 - 1}
        await store.save(old, old.value.model_copy(update=a_day_ago))
        await messages.confirm_address("usr_eve", "ada@example.com")
        await messages.send_mails()
        assert len(server.mails) == 1

    @pytest.mark.parametrize("kind", ["confirm-address", "set-password"])
    async def test_gets_a_link_and_nothing_that_its_user_wrote(
        self, messages: Messages, server: MailServer, kind: str
    ) -> None:
        await notify(
            messages, user_id="usr_eve", name="Call 555 0100", kind=kind, facts={"code": "abc-123"}
        )
        await messages.send_mails()
        (mail,) = server.mails
        assert mail["To"] == "ada@example.com"
        assert "555" not in mail.as_string()
        words = mail.get_content().split()
        assert any(word.endswith("#abc-123") for word in words)
        assert "abc-123" in words, "for whoever has no script"

    @pytest.mark.parametrize("kind", ["confirm-address", "set-password"])
    async def test_is_proven_by_the_mail_alone(
        self, messages: Messages, server: MailServer, kind: str
    ) -> None:
        """The inbox in the shop shows no code, and no message keeps one that was sent."""
        await notify(messages, user_id="usr_eve", kind=kind, facts={"code": "abc-123"})
        (waiting,) = await inbox(messages, "usr_eve")
        assert "abc-123" in waiting.mail_text
        assert "abc-123" not in waiting.text + repr(waiting)
        await messages.send_mails()
        (message,) = await inbox(messages, "usr_eve")
        assert "abc-123" not in message.model_dump_json()

    @pytest.mark.parametrize("answer", ["550 No such user here", "451 Try again later"])
    async def test_keeps_no_code_of_a_mail_that_cannot_be_sent(
        self, messages: Messages, store: MessageStore, server: MailServer, answer: str
    ) -> None:
        server.answers.append(answer)
        await notify(messages, kind="set-password", facts={"code": "abc-123"})
        (stored,) = (await store.of_user("usr_ada", 1, None)).items
        day_old = {"created_ms": stored.value.created_ms - 25 * 3_600_000}
        await store.save(stored, stored.value.model_copy(update=day_old))
        await messages.send_mails()
        (message,) = await inbox(messages)
        assert (message.due_ms, message.mail_text) == (None, "")

    async def test_is_told_of_no_mail_where_there_is_no_server(self, store: MessageStore) -> None:
        messages = Messages(store, mailer(None), Metrics())
        await notify(messages, kind="set-password", facts={"code": "abc-123"})
        assert await inbox(messages) == []


class TestFolder:
    async def test_gets_the_mails_where_there_is_no_server(
        self, store: MessageStore, tmp_path: Path
    ) -> None:
        folder = tmp_path / "mails"
        messages = Messages(store, mailer(None, mail_folder=folder), Metrics())
        await notify(messages)
        await messages.send_mails()
        (path,) = folder.iterdir()
        assert path.name == "ord_1.confirmed.eml"
        assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
        mail = message_from_bytes(path.read_bytes(), policy=default_policy)
        assert mail["To"] == "Ada Lovelace <ada@example.com>"

    async def test_that_cannot_be_written_is_tried_again(
        self, store: MessageStore, tmp_path: Path
    ) -> None:
        (tmp_path / "mails").write_text("a file in its place")
        messages = Messages(store, mailer(None, mail_folder=tmp_path / "mails"), Metrics())
        await notify(messages)
        await messages.send_mails()
        (waiting,) = await inbox(messages)
        assert (waiting.attempts, waiting.mailed_ms) == (1, None)


class TestInjection:
    @pytest.mark.parametrize(
        "name",
        [
            "Ada\r\nBcc: everybody@example.com",
            "Ada\nSubject: You have won",
            'Ada" <eve@example.com>, "',
            "Ada <eve@example.com>",
            "Ada\r\n\r\nA body",
            "eve@example.com,",
        ],
    )
    async def test_of_headers_by_a_name_is_not_possible(
        self, messages: Messages, server: MailServer, name: str
    ) -> None:
        await notify(messages, name=name)
        await messages.send_mails()
        for mail, recipients in zip(server.mails, server.recipients, strict=True):
            assert recipients == ["ada@example.com"]
            assert mail["Bcc"] is None
            assert len(mail.get_all("Subject", [])) == 1
            assert [address.addr_spec for address in mail["To"].addresses] == ["ada@example.com"]
        (message,) = await inbox(messages)
        assert message.due_ms is None, "it was sent, or cannot be"

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
    @given(name=st.text(min_size=1, max_size=60))
    async def test_by_any_name_reaches_nobody_else(self, server: MailServer, name: str) -> None:
        server.mails.clear()
        server.recipients.clear()
        try:
            await mailer(server.port).send(a_message(name=name))
        except ShopError as error:
            assert error.kind is Kind.INVALID  # noqa: PT017  a name that cannot stand in a header
            return
        assert server.recipients == [["ada@example.com"]]

    @pytest.mark.parametrize(
        "email",
        ["ada@example.com\r\nRCPT TO:<eve@example.com>", "ada@example.com, eve@example.com"],
    )
    async def test_of_recipients_by_an_address_is_not_possible(
        self, messages: Messages, server: MailServer, email: str
    ) -> None:
        await messages.confirm_address("usr_ada", email)
        await notify(messages, email=email)
        await messages.send_mails()
        assert "eve@example.com" not in [one for all_ in server.recipients for one in all_]


class TestInbox:
    async def test_is_ones_own_and_newest_first(self, messages: Messages) -> None:
        for number in range(3):
            await notify(messages, f"event:{number}")
        await notify(messages, "event:other", user_id="usr_bob")
        mine = await inbox(messages)
        assert {message.id for message in mine} == {f"event:{number}" for number in range(3)}
        times = [message.created_ms for message in mine]
        assert times == sorted(times, reverse=True)
        assert [message.id for message in await inbox(messages, "usr_bob")] == ["event:other"]

    async def test_drops_repeated_events_that_come_at_once(self, messages: Messages) -> None:
        await asyncio.gather(*(notify(messages) for _ in range(10)))
        assert len(await inbox(messages)) == 1

    async def test_keeps_the_first_text_of_an_event(self, messages: Messages) -> None:
        await notify(messages, name="Ada")
        await notify(messages, name="Eve")
        (message,) = await inbox(messages)
        assert message.text.startswith("Hello Ada,")

    async def test_refuses_what_it_cannot_say(self, messages: Messages) -> None:
        assert (await failure(notify(messages, kind="order-eaten"))).kind is Kind.INVALID
        assert await inbox(messages) == []


@pytest.mark.parametrize("given_one", ["SMTP_USERNAME", "SMTP_PASSWORD"])
def test_half_of_the_credentials_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, given_one: str
) -> None:
    monkeypatch.setenv(given_one, "something")
    with pytest.raises(ConfigurationError, match="SMTP_USERNAME and SMTP_PASSWORD are needed"):
        read_settings(NotificationSettings)
