"""Links by mail: addresses that are confirmed, passwords that are set, and the limits of both."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from services.auth.model.accounts import Account, Credentials
from services.auth.model.commands import (
    Authenticate,
    ChangePassword,
    MailLink,
    Register,
    ResetPassword,
)
from services.auth.model.links import (
    LINKS,
    MAIL_COUNTS,
    MAIL_REQUESTS,
    MAIL_TIMES,
    MAILS_PER_ADDRESS,
    Mail,
)
from services.common.errors import Kind, ShopError
from tests.unit.auth.kit import ELSEWHERE, EMAIL, HOME, PASSWORD, SETTINGS, AuthHarness, AuthProcess
from tests.unit.failure import failure

NEW_PASSWORD = "a battery that staples"
AWAY = ShopError(Kind.UNAVAILABLE, "notification-unavailable", "It cannot be reached.")


def a_link(mail: Mail, email: str = EMAIL) -> MailLink:
    return MailLink(mail=mail, email=email, client_address=HOME)


def a_reset(code: str, new_password: str = NEW_PASSWORD) -> ResetPassword:
    return ResetPassword(code=code, new_password=new_password, client_address=HOME)


def a_change(password: str = PASSWORD, new_password: str = NEW_PASSWORD) -> ChangePassword:
    return ChangePassword(
        email=EMAIL, password=password, new_password=new_password, client_address=HOME
    )


def adas(password: str) -> Authenticate:
    return Authenticate(email=EMAIL, password=password, client_address=HOME)


async def mailed_code(
    harness: AuthHarness, process: AuthProcess, mail: Mail, email: str = EMAIL
) -> str:
    """Asks for a link, and reads its code in the mail."""
    await process.auth.mail_link(a_link(mail, email))
    await process.links.send()
    return harness.notifications.mails(mail)[-1].code


class TestAddress:
    async def test_is_mailed_a_link_at_the_registration(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        await process.links.send()
        (sent,) = harness.notifications.by_event.values()
        assert (sent.mail, sent.email) == (Mail.CONFIRM_ADDRESS, EMAIL)
        await process.auth.confirm_address(sent.code)
        assert harness.notifications.confirmed == {"usr_0": EMAIL}

    async def test_link_works_once(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.CONFIRM_ADDRESS)
        await process.auth.confirm_address(code)
        error = await failure(process.auth.confirm_address(code))
        assert (error.kind, error.code) == (Kind.INVALID, "link-over")

    async def test_link_expires(self, harness: AuthHarness, process: AuthProcess, ada: str) -> None:
        code = await mailed_code(harness, process, Mail.CONFIRM_ADDRESS)
        harness.clock.pass_seconds(3 * 86_400)
        assert (await failure(process.auth.confirm_address(code))).code == "link-over"
        assert harness.notifications.confirmed == {}

    async def test_link_is_still_good_after_an_outage(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.CONFIRM_ADDRESS)
        harness.notifications.error = AWAY
        assert await failure(process.auth.confirm_address(code)) is AWAY
        harness.notifications.error = None
        await process.auth.confirm_address(code)
        assert harness.notifications.confirmed == {"usr_0": EMAIL}

    async def test_link_sets_no_password(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.CONFIRM_ADDRESS)
        reset = process.auth.reset_password(a_reset(code))
        assert (await failure(reset)).code == "link-over"

    async def test_registration_does_not_wait_for_notification(
        self, harness: AuthHarness, process: AuthProcess
    ) -> None:
        harness.notifications.error = AWAY
        await process.auth.register(
            Register(email=EMAIL, password=PASSWORD, name="Ada", client_address=HOME)
        )
        assert await failure(process.links.send()) is AWAY
        harness.notifications.error = None
        await process.links.send()
        assert len(harness.notifications.mails(Mail.CONFIRM_ADDRESS)) == 1

    async def test_registration_goes_on_when_no_more_mails_are_sent(
        self, harness: AuthHarness
    ) -> None:
        settings = SETTINGS.model_copy(update={"link_mails_per_minute": 1})
        async with harness.process(settings) as process:
            for number in range(2):
                await process.auth.register(
                    Register(
                        email=f"ada{number}@example.com",
                        password=PASSWORD,
                        name="Ada",
                        client_address=HOME,
                    )
                )
            await process.links.send()
        assert len(harness.notifications.mails(Mail.CONFIRM_ADDRESS)) == 1


class TestReset:
    async def test_sets_the_password_and_ends_all_sessions(
        self, harness: AuthHarness, process: AuthProcess, another: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        await another.auth.reset_password(a_reset(code))
        error = await failure(process.auth.refresh(ada))
        assert (error.kind, error.code) == (Kind.UNAUTHENTICATED, "session-ended")
        wrong = await failure(process.auth.log_in(adas(PASSWORD)))
        assert wrong.code == "wrong-credentials"
        assert await process.auth.log_in(adas(NEW_PASSWORD))

    async def test_confirms_the_address_and_says_so_by_mail(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        await process.auth.reset_password(a_reset(code))
        assert harness.notifications.confirmed == {"usr_0": EMAIL}
        await process.links.send()
        (told,) = harness.notifications.mails(Mail.PASSWORD_CHANGED)
        assert (told.email, told.code) == (EMAIL, "")

    async def test_sets_the_first_password_of_an_account(
        self, harness: AuthHarness, process: AuthProcess
    ) -> None:
        email = "guest@example.com"
        guest = Account("usr_guest", email, "A Guest", (), contact_email=email)
        harness.users.accounts[email] = Credentials(guest, "")
        refused = await failure(
            process.auth.log_in(
                Authenticate(email=guest.email, password=PASSWORD, client_address=HOME)
            )
        )
        assert refused.code == "wrong-credentials"
        code = await mailed_code(harness, process, Mail.SET_PASSWORD, guest.email)
        await process.auth.reset_password(a_reset(code))
        assert await process.auth.log_in(
            Authenticate(email=guest.email, password=NEW_PASSWORD, client_address=HOME)
        )

    async def test_ends_every_other_link(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        codes = [await mailed_code(harness, process, Mail.SET_PASSWORD) for _ in range(2)]
        await process.auth.reset_password(a_reset(codes[1], NEW_PASSWORD))
        for code in codes:
            again = process.auth.reset_password(a_reset(code, "yet another password"))
            assert (await failure(again)).code == "link-over"

    async def test_of_many_at_once_one_succeeds(
        self, harness: AuthHarness, process: AuthProcess, another: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        outcomes = await asyncio.gather(
            *(
                each.auth.reset_password(a_reset(code, f"{NEW_PASSWORD} {number}"))
                for number, each in enumerate((process, another) * 3)
            ),
            return_exceptions=True,
        )
        assert outcomes.count(None) == 1
        assert harness.users.accounts[EMAIL].account.password_version == 1

    async def test_link_is_good_for_half_an_hour(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        harness.clock.pass_seconds(1800)
        reset = process.auth.reset_password(a_reset(code))
        assert (await failure(reset)).code == "link-over"

    async def test_refuses_a_weak_password_and_takes_another(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        weak = process.auth.reset_password(a_reset(code, "password123"))
        assert (await failure(weak)).code == "weak-password"
        await process.auth.reset_password(a_reset(code))

    async def test_lets_in_whoever_had_forgotten_the_password_too_often(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        for _ in range(5):
            await failure(process.auth.log_in(adas("is it this one?")))
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        await process.auth.reset_password(a_reset(code))
        assert await process.auth.log_in(adas(NEW_PASSWORD))

    async def test_code_is_kept_nowhere(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        code = await mailed_code(harness, process, Mail.SET_PASSWORD)
        stored = b"".join(path.read_bytes() for path in harness.data.glob("auth.db*"))
        assert EMAIL.encode() in stored
        assert code.encode() not in stored


class TestAsking:
    async def test_is_the_same_work_with_and_without_an_account(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        """Nobody is asked before the answer, so its time says nothing."""
        harness.users.is_down = True
        harness.notifications.error = AWAY
        for email in (EMAIL, "nobody@example.com"):
            await process.auth.mail_link(a_link(Mail.SET_PASSWORD, email))
        harness.users.is_down = False
        harness.notifications.error = None
        await process.links.send()
        assert [sent.email for sent in harness.notifications.mails(Mail.SET_PASSWORD)] == [EMAIL]
        assert not await process.links.send()

    @pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
    async def test_is_limited_for_an_address(
        self, harness: AuthHarness, process: AuthProcess, another: AuthProcess, email: str
    ) -> None:
        for number in range(MAILS_PER_ADDRESS):
            await (process, another)[number % 2].auth.mail_link(a_link(Mail.SET_PASSWORD, email))
        error = await failure(process.auth.mail_link(a_link(Mail.CONFIRM_ADDRESS, email)))
        assert (error.kind, error.code) == (Kind.THROTTLED, "too-many-mails")
        assert error.retry_after_seconds is not None
        await process.auth.mail_link(a_link(Mail.SET_PASSWORD, "another@example.com"))
        harness.clock.pass_seconds(error.retry_after_seconds)
        await process.auth.mail_link(a_link(Mail.SET_PASSWORD, email))

    async def test_is_limited_within_any_hour(
        self, harness: AuthHarness, process: AuthProcess
    ) -> None:
        """Whatever the clock shows: the next full hour lets nobody begin again."""
        for _ in range(MAILS_PER_ADDRESS):
            await process.auth.mail_link(a_link(Mail.SET_PASSWORD))
            harness.clock.pass_seconds(600)
        for _ in range(MAILS_PER_ADDRESS):
            error = await failure(process.auth.mail_link(a_link(Mail.SET_PASSWORD)))
            assert error.retry_after_seconds == pytest.approx(600)
            harness.clock.pass_seconds(600)
            await process.auth.mail_link(a_link(Mail.SET_PASSWORD))

    async def test_is_limited_for_a_network(self, harness: AuthHarness) -> None:
        """Registering counts, too: each sends a mail to whatever address was typed in."""
        settings = SETTINGS.model_copy(update={"network_link_mails_per_hour": 2})
        async with harness.process(settings) as process:
            await process.auth.register(
                Register(email=EMAIL, password=PASSWORD, name="Ada", client_address=HOME)
            )
            await process.auth.mail_link(a_link(Mail.SET_PASSWORD, "bob@example.com"))
            refused = process.auth.mail_link(a_link(Mail.SET_PASSWORD, "eve@example.com"))
            error = await failure(refused)
            assert (error.kind, error.code) == (Kind.THROTTLED, "too-many-mails")
            await process.auth.mail_link(
                MailLink(mail=Mail.SET_PASSWORD, email="eve@example.com", client_address=ELSEWHERE)
            )
            assert error.retry_after_seconds is not None
            harness.clock.pass_seconds(error.retry_after_seconds)
            await process.auth.mail_link(a_link(Mail.SET_PASSWORD, "eve@example.com"))

    async def test_is_limited_in_all(self, harness: AuthHarness) -> None:
        settings = SETTINGS.model_copy(update={"link_mails_per_minute": 3})
        async with harness.process(settings) as process:
            for number in range(3):
                await process.auth.mail_link(a_link(Mail.SET_PASSWORD, f"ada{number}@example.com"))
            refused = process.auth.mail_link(a_link(Mail.SET_PASSWORD, "eve@example.com"))
            assert (await failure(refused)).code == "too-many-mails"
            harness.clock.pass_seconds(60)
            await process.auth.mail_link(a_link(Mail.SET_PASSWORD, "eve@example.com"))

    async def test_is_mailed_once_by_several_processes(
        self, harness: AuthHarness, process: AuthProcess, another: AuthProcess, ada: str
    ) -> None:
        await asyncio.gather(process.links.send(), another.links.send())
        (sent,) = harness.notifications.mails(Mail.CONFIRM_ADDRESS)
        await process.auth.confirm_address(sent.code)

    async def test_that_notification_refuses_holds_up_no_other(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        harness.notifications.error = ShopError(Kind.INVALID, "unknown-kind", "No such mail.")
        await process.links.send()
        harness.notifications.error = None
        await process.auth.mail_link(a_link(Mail.SET_PASSWORD))
        await process.links.send()
        (sent,) = harness.notifications.by_event.values()
        assert sent.mail is Mail.SET_PASSWORD

    async def test_leaves_nothing_behind(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        await mailed_code(harness, process, Mail.CONFIRM_ADDRESS)
        await process.auth.mail_link(a_link(Mail.SET_PASSWORD))
        harness.clock.pass_seconds(3 * 86_400 + 1)
        await process.links.sweep()
        with closing(sqlite3.connect(harness.data / "auth.db")) as database:
            for collection in (LINKS, MAIL_REQUESTS, MAIL_TIMES, MAIL_COUNTS):
                count = f"SELECT count(*) FROM {collection.name}"  # noqa: S608  names of the code
                assert database.execute(count).fetchone() == (0,), collection.name


class TestChange:
    async def test_ends_all_other_sessions(
        self, harness: AuthHarness, process: AuthProcess, another: AuthProcess, ada: str
    ) -> None:
        elsewhere = (await another.auth.log_in(adas(PASSWORD))).refresh_token
        tokens = await process.auth.change_password(a_change())
        for old in (ada, elsewhere):
            assert (await failure(another.auth.refresh(old))).code == "session-ended"
        assert await another.auth.refresh(tokens.refresh_token)
        await process.links.send()
        assert len(harness.notifications.mails(Mail.PASSWORD_CHANGED)) == 1

    async def test_needs_the_present_password(self, process: AuthProcess, ada: str) -> None:
        for _ in range(5):
            change = process.auth.change_password(a_change("wrong horse battery"))
            assert (await failure(change)).code == "wrong-credentials"
        # Guesses here count as those at the log-in do.
        change = process.auth.change_password(a_change())
        assert (await failure(change)).kind is Kind.THROTTLED
        assert await process.auth.refresh(ada)

    @pytest.mark.parametrize("weak", ["password123", EMAIL, "Ada Lovelace"])
    async def test_refuses_a_weak_password(self, process: AuthProcess, ada: str, weak: str) -> None:
        change = process.auth.change_password(a_change(new_password=weak))
        assert (await failure(change)).code == "weak-password"
        assert await process.auth.log_in(adas(PASSWORD))

    async def test_refuses_the_password_that_it_has(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        change = process.auth.change_password(a_change(new_password=PASSWORD))
        error = await failure(change)
        assert (error.kind, error.code) == (Kind.INVALID, "same-password")
        await process.links.send()
        assert not harness.notifications.mails(Mail.PASSWORD_CHANGED)
        assert await process.auth.refresh(ada)

    async def test_ends_a_session_that_begins_meanwhile_with_the_old_password(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        before = harness.users.accounts[EMAIL].account
        await process.auth.change_password(a_change())
        late = await process.sessions.begin(before)
        assert (await failure(process.auth.refresh(late.text))).code == "session-ended"

    async def test_a_hash_with_new_parameters_ends_no_session(
        self, harness: AuthHarness, process: AuthProcess, ada: str
    ) -> None:
        stronger = SETTINGS.model_copy(update={"password_hash_iterations": 2})
        async with harness.process(stronger) as stronger_process:
            await stronger_process.auth.log_in(adas(PASSWORD))
        assert ",t=2," in harness.users.accounts[EMAIL].password_hash
        assert await process.auth.refresh(ada)
