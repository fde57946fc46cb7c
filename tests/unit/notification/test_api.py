"""Notification as its process serves it: events over gRPC, the inbox over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.common import context
from services.common.calls.grpc_client import GrpcEdge, open_channel
from services.common.errors import Kind
from services.common.serving.host import Host, hosting
from services.common.topology import load_topology
from services.notification.main import wire
from services.pb import notification_pb2 as pb
from services.pb import shared_pb2
from tests.testkit.waiting import eventually
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.common.kit import call_tools, process_settings, until
from tests.unit.failure import failure
from tests.unit.notification.examples import FACTS
from tests.unit.notification.mail_server import MailServer, mail_server
from tests.unit.tokens import headers_of, verifier


class NotificationCallers:
    """Those who call the service: `order` with its events, `auth` with confirmed addresses, and
    customers with their tokens.
    """

    def __init__(self, host: Host, edge: GrpcEdge, of_auth: GrpcEdge) -> None:
        self._app = host.app()
        self._confirm = of_auth.rpc(
            "meshmart.notification.v1.NotificationService/ConfirmAddress",
            pb.ConfirmAddressRequest,
            pb.ConfirmAddressResponse,
        )
        self._notify = edge.rpc(
            "meshmart.notification.v1.NotificationService/Notify",
            pb.NotifyRequest,
            pb.NotifyResponse,
        )

    async def notify(
        self,
        event_id: str = "ord_1:confirmed",
        *,
        user_id: str = "usr_ada",
        kind: str = "order-confirmed",
        facts: Mapping[str, str] = FACTS,
    ) -> None:
        """Tells of an event, as `order` does."""
        contact = shared_pb2.Contact(user_id=user_id, name="Ada", email="ada@example.com")
        request = pb.NotifyRequest(event_id=event_id, contact=contact, kind=kind, facts=facts)
        with context.background(5.0):
            await self._notify(request)

    async def confirm(self, user_id: str = "usr_ada") -> None:
        """Tells that the customer has confirmed the address, as `auth` does."""
        request = pb.ConfirmAddressRequest(user_id=user_id, email="ada@example.com")
        with context.background(5.0):
            await self._confirm(request)

    async def inbox(self, query: str = "", user_id: str | None = "usr_ada") -> AsgiAnswer:
        """What the API answers to a customer, or to nobody."""
        headers: Mapping[str, str] = {} if user_id is None else headers_of(user_id)
        return await ask(self._app, "GET", f"/api/notifications{query}", headers=headers)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[MailServer]:
    async with mail_server() as server:
        monkeypatch.setenv("SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SMTP_PORT", str(server.port))
        monkeypatch.setenv("SMTP_STARTTLS", "false")
        yield server


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[NotificationCallers]:
    async def wire_with_keys(host: Host) -> None:
        host.token_verifier = verifier()  # in the place of auth's keys
        await wire(host)

    topology = load_topology()
    process = process_settings(database_url=f"sqlite:///{tmp_path}", drain_seconds=0)
    async with (
        hosting("notification", wire_with_keys, topology=topology, process=process) as host,
        host.running(),
        open_channel([f"127.0.0.1:{process.grpc_port}"]) as channel,
    ):
        order, auth = (
            GrpcEdge(topology.edge(caller, "notification"), channel, call_tools())
            for caller in ("order", "auth")
        )
        yield NotificationCallers(host, order, auth)


def ids(answer: AsgiAnswer) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


async def test_an_event_becomes_a_message_in_the_inbox(client: NotificationCallers) -> None:
    await client.notify()
    answer = await client.inbox()
    assert answer.status == 200
    (message,) = answer.json()["items"]
    assert message.pop("created_at").endswith("Z")
    assert message.pop("text").startswith("Hello Ada,\n\nThank you for your order ord_mfrggz")
    assert message == {
        "id": "ord_1:confirmed",
        "kind": "order-confirmed",
        "order_id": FACTS["order_id"],
        "subject": "Your order ord_mfrggzdfmztwq2lkmfrggzdf is confirmed",
        "is_held": False,
    }
    assert answer.json()["mail"] == "off"


async def test_the_inbox_says_what_waits_for_the_confirmation(
    server: MailServer, client: NotificationCallers
) -> None:
    async def is_held() -> bool:
        (message,) = (await client.inbox()).json()["items"]
        return bool(message["is_held"])

    await client.notify()
    await eventually(is_held, "the mail is held")
    assert (await client.inbox()).json()["mail"] == "waiting"
    await client.confirm()
    await until(lambda: len(server.mails) == 1, seconds=1.0)
    assert not await is_held()
    assert (await client.inbox()).json()["mail"] == "on"


async def test_an_event_is_mailed_at_once(server: MailServer, client: NotificationCallers) -> None:
    """The job sweeps every two seconds, and has just done so: it is woken."""
    await client.confirm()
    await client.notify()
    await until(lambda: len(server.mails) == 1, seconds=1.0)
    assert server.mails[0]["Subject"] == "Your order ord_mfrggzdfmztwq2lkmfrggzdf is confirmed"


async def test_an_event_told_many_times_at_once_is_one_message_and_one_mail(
    server: MailServer, client: NotificationCallers
) -> None:
    await client.confirm()
    await asyncio.gather(*(client.notify() for _ in range(20)))
    await client.notify("ord_2:confirmed")
    await until(lambda: len(server.mails) == 2)
    assert sorted(ids(await client.inbox())) == ["ord_1:confirmed", "ord_2:confirmed"]


@pytest.mark.parametrize(
    ("kind", "facts", "code"),
    [
        ("order-eaten", FACTS, "unknown-kind"),
        ("", FACTS, "unknown-kind"),
        ("order-confirmed", {}, "missing-fact"),
        ("order-confirmed", {**FACTS, "order_id": None}, "missing-fact"),
        ("order-cancelled", {**FACTS, "reason": None}, "missing-fact"),
        ("shipment-dispatched", {**FACTS, "tracking_number": None}, "missing-fact"),
    ],
)
async def test_what_cannot_be_said_is_refused(
    client: NotificationCallers, kind: str, facts: Mapping[str, str | None], code: str
) -> None:
    given = {name: value for name, value in facts.items() if value is not None}
    refused = await failure(client.notify(kind=kind, facts=given))
    assert (refused.kind, refused.code) == (Kind.INVALID, code)
    assert ids(await client.inbox()) == []


async def test_the_inbox_is_paged_newest_first_and_ones_own(client: NotificationCallers) -> None:
    for number in range(5):
        await client.notify(f"ord_{number}:confirmed")
        await client.notify(f"ord_{number}:hers", user_id="usr_eve")
    pages: list[Any] = []
    query = "?limit=2"
    while query:
        page = (await client.inbox(query)).json()
        pages.append(page["items"])
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert [len(page) for page in pages] == [2, 2, 1]
    shown = [item for page in pages for item in page]
    assert {item["id"] for item in shown} == {f"ord_{number}:confirmed" for number in range(5)}
    times = [item["created_at"] for item in shown]
    assert times == sorted(times, reverse=True)


async def test_a_page_is_the_same_while_new_messages_come(client: NotificationCallers) -> None:
    for number in range(3):
        await client.notify(f"ord_{number}:confirmed")
    everything = ids(await client.inbox())
    first = await client.inbox("?limit=1")
    await client.notify("ord_9:confirmed")
    rest = await client.inbox(f"?limit=5&cursor={first.json()['next_cursor']}")
    assert ids(first) + ids(rest) == everything


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=101", "?limit=x", "?cursor=nonsense", f"?cursor={'x' * 513}"]
)
async def test_bad_paging_is_refused(client: NotificationCallers, query: str) -> None:
    assert (await client.inbox(query)).status == 422


async def test_the_inbox_needs_a_token(client: NotificationCallers) -> None:
    await client.notify()
    answer = await client.inbox(user_id=None)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
