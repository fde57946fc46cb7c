"""Wires the auth service."""

from __future__ import annotations

from services.auth import api
from services.auth.clients import AccountNotifications, Accounts
from services.auth.devices import Devices
from services.auth.keyring import Keyring
from services.auth.links import Limits, Links
from services.auth.model.attempts import ATTEMPTS, FAILURES, LoginAttempts, LoginFailures
from services.auth.model.devices import DEVICE_KEYS, DeviceKey
from services.auth.model.keys import KEYS, KeyPolicy, SigningKey
from services.auth.model.links import (
    LINKS,
    MAIL_COUNTS,
    MAIL_REQUESTS,
    MAIL_TIMES,
    Link,
    MailCount,
    MailRequest,
    MailTimes,
)
from services.auth.model.sessions import SESSIONS, Session
from services.auth.passwords import Passwords
from services.auth.service import Auth
from services.auth.sessions import Sessions
from services.auth.settings import AuthSettings
from services.auth.store import (
    AttemptStore,
    DeviceKeyStore,
    KeyStore,
    LinkStore,
    SessionStore,
)
from services.auth.throttle import LoginThrottle
from services.common.serving.host import Host

KEY_CHECK_SECONDS = 30.0
SWEEP_SECONDS = 300.0
MAIL_SECONDS = 5.0


async def wire(host: Host) -> None:
    """Builds the service on its host."""
    settings = host.settings(AuthSettings)
    passwords = Passwords(settings)
    host.on_close(passwords.close)
    keyring = Keyring(
        KeyStore(await host.documents(KEYS, SigningKey)),
        KeyPolicy(
            rotation_ms=settings.key_rotation_seconds * 1000,
            publish_ms=settings.key_publish_seconds * 1000,
            access_token_ms=settings.access_token_seconds * 1000,
        ),
    )
    attempts = AttemptStore(
        await host.documents(ATTEMPTS, LoginAttempts),
        await host.documents(FAILURES, LoginFailures),
    )
    throttle = LoginThrottle(attempts, settings.login_failures_per_minute)
    sessions = Sessions(
        SessionStore(await host.documents(SESSIONS, Session)), settings.refresh_token_seconds
    )
    users = Accounts(host.grpc("user"))
    notifications = AccountNotifications(host.grpc("notification"))
    links = Links(
        LinkStore(
            await host.documents(LINKS, Link),
            await host.documents(MAIL_REQUESTS, MailRequest),
            await host.documents(MAIL_TIMES, MailTimes),
            await host.documents(MAIL_COUNTS, MailCount),
        ),
        users,
        notifications,
        Limits(settings.network_link_mails_per_hour, settings.link_mails_per_minute),
    )
    auth = Auth(
        users=users,
        notifications=notifications,
        passwords=passwords,
        throttle=throttle,
        devices=Devices(DeviceKeyStore(await host.documents(DEVICE_KEYS, DeviceKey))),
        keyring=keyring,
        sessions=sessions,
        links=links,
        metrics=host.metrics,
    )

    async def send_links() -> None:
        if await links.send():
            mail_job.wake()

    callees = ["user", "notification"]
    mail_job = host.every("send links", MAIL_SECONDS, send_links, callees=callees)
    links.on_request(mail_job.wake)
    host.serve_http(api.router, auth, keyring)
    host.every("rotate keys", KEY_CHECK_SECONDS, keyring.rotate)
    host.every("sweep sessions", SWEEP_SECONDS, sessions.sweep)
    host.every("sweep attempts", SWEEP_SECONDS, throttle.sweep)
    host.every("sweep links", SWEEP_SECONDS, links.sweep)
