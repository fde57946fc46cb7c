"""Guests: sessions without an account, and how one becomes an account."""

from __future__ import annotations

import pytest

from services.auth.model.commands import (
    Authenticate,
    ChangeGuestAddress,
    KeepGuestAccount,
    MailLink,
    OpenGuest,
)
from services.auth.model.links import MAILS_PER_ADDRESS, Mail
from services.auth.service import Tokens
from services.common.errors import Kind
from tests.unit.auth.kit import EMAIL, HOME, PASSWORD, AuthHarness, AuthProcess
from tests.unit.failure import failure

CORRECTED = "ada@example.org"


async def guest_of(process: AuthProcess, name: str = "Ada") -> Tokens:
    return await process.auth.open_guest(OpenGuest(email=EMAIL, name=name, client_address=HOME))


async def log_in(process: AuthProcess, password: str = PASSWORD) -> Tokens:
    return await process.auth.log_in(
        Authenticate(email=EMAIL, password=password, client_address=HOME)
    )


async def keep(process: AuthProcess, refresh_token: str, password: str = PASSWORD) -> Tokens:
    return await process.auth.keep_guest(
        KeepGuestAccount(refresh_token=refresh_token, password=password, client_address=HOME)
    )


async def test_a_guest_has_a_session_and_has_proved_no_address(process: AuthProcess) -> None:
    tokens = await guest_of(process)
    caller = await process.verifier().verify(tokens.access_token)
    assert (caller.name, caller.email, caller.is_guest) == ("Ada", "", True)
    renewed = await process.auth.refresh(tokens.refresh_token)
    assert tokens.device_token == renewed.device_token == "", "it would replace an account's"
    assert (await process.verifier().verify(renewed.access_token)).user_id == caller.user_id


async def test_a_guest_with_the_address_of_an_account_is_somebody_else(
    process: AuthProcess, ada: str
) -> None:
    account = await process.verifier().verify((await process.auth.refresh(ada)).access_token)
    guest = await guest_of(process, "Eve")
    caller = await process.verifier().verify(guest.access_token)
    assert caller.user_id != account.user_id
    refused = await failure(keep(process, guest.refresh_token, "eves horse battery"))
    assert (refused.kind, refused.code) == (Kind.CONFLICT, "email-taken")
    assert (await log_in(process)).access_token
    wrong = await failure(log_in(process, "eves horse battery"))
    assert wrong.code == "wrong-credentials"


async def test_a_guest_who_sets_a_password_keeps_the_account(process: AuthProcess) -> None:
    guest = await guest_of(process)
    before = await process.verifier().verify(guest.access_token)
    assert (await failure(log_in(process))).code == ("wrong-credentials")
    kept = await keep(process, guest.refresh_token)
    caller = await process.verifier().verify(kept.access_token)
    assert (caller.user_id, caller.email, caller.is_guest) == (before.user_id, EMAIL, False)
    assert (await failure(process.auth.refresh(guest.refresh_token))).code == "session-ended"
    assert kept.device_token
    logged_in = await log_in(process)
    assert (await process.verifier().verify(logged_in.access_token)).user_id == before.user_id


async def test_a_guest_confirms_the_address_that_they_gave(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    await process.links.send()
    harness.notifications.by_event.clear()
    await guest_of(process, "Eve")
    await process.links.send()
    (sent,) = harness.notifications.by_event.values()
    assert (sent.mail, sent.email) == (Mail.CONFIRM_ADDRESS, EMAIL)
    await process.auth.confirm_address(sent.code)
    assert harness.notifications.confirmed == {"usr_guest_0": EMAIL}, "and not Ada's account"


async def test_a_password_by_mail_is_none_for_guests(
    harness: AuthHarness, process: AuthProcess
) -> None:
    await guest_of(process)
    await process.auth.mail_link(MailLink(mail=Mail.SET_PASSWORD, email=EMAIL, client_address=HOME))
    await process.links.send()
    assert harness.notifications.mails(Mail.SET_PASSWORD) == []


async def test_only_a_guest_is_given_a_password_so(process: AuthProcess, ada: str) -> None:
    refused = await failure(keep(process, ada, "another horse"))
    assert (refused.kind, refused.code) == (Kind.CONFLICT, "not-a-guest")
    nobody = await failure(keep(process, "ses_x"))
    assert nobody.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize("password", ["password123", "ada@example.com"])
async def test_a_guests_password_is_no_easier_than_others(
    process: AuthProcess, password: str
) -> None:
    guest = await guest_of(process)
    refused = await failure(keep(process, guest.refresh_token, password))
    assert (refused.kind, refused.code) == (Kind.INVALID, "weak-password")
    await process.auth.refresh(guest.refresh_token)  # still a session


async def mail_again(process: AuthProcess, refresh_token: str) -> None:
    await process.auth.mail_guest_link(refresh_token, client_address=HOME)
    await process.links.send()


async def correct(process: AuthProcess, refresh_token: str, email: str = CORRECTED) -> None:
    await process.auth.change_guest_email(
        ChangeGuestAddress(refresh_token=refresh_token, email=email, client_address=HOME)
    )
    await process.links.send()


async def test_a_guest_asks_for_the_link_again(harness: AuthHarness, process: AuthProcess) -> None:
    guest = await guest_of(process)
    await process.links.send()
    await mail_again(process, guest.refresh_token)
    first, second = harness.notifications.mails(Mail.CONFIRM_ADDRESS)
    assert (second.email, second.code != first.code) == (EMAIL, True)
    await process.auth.confirm_address(second.code)
    assert harness.notifications.confirmed == {"usr_guest_0": EMAIL}


async def test_a_guest_is_mailed_no_more_links_than_others(
    harness: AuthHarness, process: AuthProcess
) -> None:
    guest = await guest_of(process)
    for _ in range(MAILS_PER_ADDRESS - 1):
        await mail_again(process, guest.refresh_token)
    refused = await failure(mail_again(process, guest.refresh_token))
    assert (refused.kind, refused.code) == (Kind.THROTTLED, "too-many-mails")
    await correct(process, guest.refresh_token)
    await correct(process, guest.refresh_token, EMAIL)  # takes place, if without a mail
    assert harness.users.guests["usr_guest_0"].contact_email == EMAIL
    assert len(harness.notifications.mails(Mail.CONFIRM_ADDRESS)) == MAILS_PER_ADDRESS + 1


async def test_a_corrected_address_is_mailed_a_link(
    harness: AuthHarness, process: AuthProcess
) -> None:
    guest = await guest_of(process)
    await process.links.send()
    await correct(process, guest.refresh_token)
    wrong, right = harness.notifications.mails(Mail.CONFIRM_ADDRESS)
    assert (wrong.email, right.email) == (EMAIL, CORRECTED)
    over = await failure(process.auth.confirm_address(wrong.code))
    assert over.code == "link-over", "a stranger may have that mail"
    await process.auth.confirm_address(right.code)
    assert harness.notifications.confirmed == {"usr_guest_0": CORRECTED}


async def test_the_same_address_is_no_correction(
    harness: AuthHarness, process: AuthProcess
) -> None:
    guest = await guest_of(process)
    await process.links.send()
    await correct(process, guest.refresh_token, EMAIL)
    assert len(harness.notifications.mails(Mail.CONFIRM_ADDRESS)) == 1


async def test_only_guests_correct_their_address_so(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    await process.links.send()
    for attempt in (correct(process, ada), mail_again(process, ada)):
        refused = await failure(attempt)
        assert (refused.kind, refused.code) == (Kind.CONFLICT, "not-a-guest")
    for attempt in (correct(process, "ses_x"), mail_again(process, "ses_x")):
        assert (await failure(attempt)).kind is Kind.UNAUTHENTICATED
    assert (await log_in(process)).access_token
    assert len(harness.notifications.mails(Mail.CONFIRM_ADDRESS)) == 1


async def test_a_guest_keeps_the_account_with_another_address(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    guest = await guest_of(process)
    before = await process.verifier().verify(guest.access_token)
    await process.links.send()
    kept = await process.auth.keep_guest(
        KeepGuestAccount(
            refresh_token=guest.refresh_token,
            password=PASSWORD,
            client_address=HOME,
            email=CORRECTED,
        )
    )
    caller = await process.verifier().verify(kept.access_token)
    assert (caller.user_id, caller.email) == (before.user_id, CORRECTED)
    await process.links.send()
    sent = harness.notifications.mails(Mail.CONFIRM_ADDRESS)[-1]
    assert sent.email == CORRECTED
    await process.auth.confirm_address(sent.code)
    assert harness.notifications.confirmed == {before.user_id: CORRECTED}


async def test_the_address_that_a_guest_gave_is_mailed_no_second_link(
    harness: AuthHarness, process: AuthProcess
) -> None:
    guest = await guest_of(process)
    await keep(process, guest.refresh_token)
    await process.links.send()
    assert len(harness.notifications.mails(Mail.CONFIRM_ADDRESS)) == 1
