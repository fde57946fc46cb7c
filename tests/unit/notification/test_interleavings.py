"""One event told twice, and its mail sent by two processes: in whatever order, the customer gets it
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from services.common.documents import Documents
from services.common.observing.metrics import Metrics
from services.notification.clients import Mailer
from services.notification.model import ADDRESSES, MESSAGES, ConfirmedAddress, Message
from services.notification.service import Messages
from services.notification.settings import NotificationSettings
from services.notification.store import MessageStore
from tests.unit.interleaving import (
    Actor,
    SteppedStore,
    cut_everywhere,
    interleave_by_chance,
    interleave_jobs,
    names_of,
    run,
)
from tests.unit.notification.examples import an_event

Job = Callable[["SteppedMessages"], Coroutine[Any, Any, object]]


class FakeMailer(Mailer):
    """Takes all mails."""

    def __init__(self) -> None:
        super().__init__(NotificationSettings(smtp_host="127.0.0.1"))
        self.sent: list[str] = []

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        self.sent.append(message.id)


class SteppedMessages:
    """One event; every process is as good as another."""

    def __init__(self, *, is_confirmed: bool = True) -> None:
        self.documents = SteppedStore()
        self.mailer = FakeMailer()
        self.now_seconds = 0.0
        self.messages = Messages(
            MessageStore(
                Documents(self.documents, MESSAGES, Message),
                Documents(self.documents, ADDRESSES, ConfirmedAddress),
            ),
            self.mailer,
            Metrics(),
            clock=lambda: self.now_seconds,
        )
        if is_confirmed:
            run(confirm(self))

    @property
    def message(self) -> Message:
        """As it is stored."""
        (body,) = self.documents.bodies(MESSAGES)
        return Message.model_validate(body)

    def settle(self) -> None:
        """Lets leases lapse, and sends what is left."""
        run(self.messages.send_mails())
        self.now_seconds += 60
        run(self.messages.send_mails())


async def tell(system: SteppedMessages) -> None:
    """Tells of the event."""
    await system.messages.notify(an_event())


async def mail(system: SteppedMessages) -> None:
    """Sends what is due."""
    await system.messages.send_mails()


async def confirm(system: SteppedMessages) -> None:
    """The customer confirms the address."""
    await system.messages.confirm_address("usr_ada", "ada@example.com")


async def tell_and_mail(system: SteppedMessages) -> None:
    """Tells of the event and sends what is due."""
    await tell(system)
    await mail(system)


@pytest.mark.parametrize(
    ("before", "jobs"),
    [
        ((), (tell, tell)),
        ((), (tell, mail)),
        ((), (tell_and_mail, tell_and_mail)),
        ((tell,), (mail, mail)),
        ((tell_and_mail,), (tell_and_mail, mail)),
    ],
    ids=names_of,
)
def test_two_processes_send_one_mail(before: tuple[Job, ...], jobs: tuple[Job, Job]) -> None:
    def check(system: SteppedMessages) -> None:
        system.settle()
        assert system.mailer.sent == ["ord_1:confirmed"]
        assert system.message.due_ms is None

    interleave_jobs(SteppedMessages, before, jobs, check)


@pytest.mark.parametrize(
    ("before", "job"),
    [((), tell), ((), tell_and_mail), ((tell,), mail), ((tell_and_mail,), mail), ((), confirm)],
    ids=["told", "told and mailed", "told before", "mailed before", "confirmed"],
)
def test_no_mail_stays_held_after_the_confirmation(before: tuple[Job, ...], job: Job) -> None:
    def check(system: SteppedMessages) -> None:
        run(tell(system))
        system.settle()
        assert system.mailer.sent == ["ord_1:confirmed"]
        assert not system.message.is_held

    interleave_jobs(partial(SteppedMessages, is_confirmed=False), before, (job, confirm), check)


def test_who_is_told_again_releases_what_a_process_held_that_died() -> None:
    for system, actor in cut_everywhere(partial(SteppedMessages, is_confirmed=False), (), tell):
        run(confirm(system))
        actor.go(1)
        actor.die()
        run(tell(system))
        system.settle()
        assert system.mailer.sent == ["ord_1:confirmed"]


@pytest.mark.parametrize("seed", range(50))
def test_many_processes_send_one_mail(seed: int) -> None:
    system = SteppedMessages()
    assert not interleave_by_chance([tell_and_mail(system) for _ in range(4)], seed)
    system.settle()
    assert system.mailer.sent == ["ord_1:confirmed"]


def test_a_process_that_dies_sending_leaves_its_mail_to_others() -> None:
    """At least once: twice only when it died between sending and storing that."""
    copies: list[int] = []
    for system, actor in cut_everywhere(SteppedMessages, (tell,), mail):
        actor.die()
        system.settle()
        assert system.message.mailed_ms is not None
        copies.append(len(system.mailer.sent))
    assert copies == [1] * (len(copies) - 1) + [2]


def test_a_mail_of_a_process_that_lives_is_not_taken_over() -> None:
    system = SteppedMessages()
    run(tell(system))
    sending = Actor(mail(system))
    while not system.message.is_being_sent:
        sending.step()
    run(mail(system))
    system.now_seconds += 29.0  # a lease is three times the mail server's 10 s
    run(mail(system))
    assert system.mailer.sent == []
    sending.finish()
    assert system.mailer.sent == ["ord_1:confirmed"]
