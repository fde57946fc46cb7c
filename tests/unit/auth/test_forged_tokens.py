"""Whatever is not exactly a token of ours is refused."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey

from services.auth.model.accounts import Account
from services.common.errors import Kind
from services.common.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER
from tests.unit.auth.kit import AuthHarness, AuthProcess, ManualWallClock
from tests.unit.failure import failure

ADA = Account("usr_ada", "ada@example.com", "Ada", ())


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones, changed: None leaves one out, a timedelta is a time from now on."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_ada", "iat": now, "exp": now + 900}
    return {
        name: now + int(value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in {**good, **changes}.items()
        if value is not None
    }


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


async def private_key(process: AuthProcess) -> ECKey:
    """The real thing, as only auth has it."""
    await process.keyring.public_keys()
    (stored,) = await process.keyring._store.all()  # pyright: ignore[reportPrivateUsage]  # to sign what auth never would
    return ECKey.import_key(dict(stored.value.private_jwk))


async def assert_refused(process: AuthProcess, token: str) -> None:
    assert (await failure(process.verifier().verify(token))).kind is Kind.UNAUTHENTICATED


async def test_the_test_can_make_a_good_token(process: AuthProcess) -> None:
    key = await private_key(process)
    token = jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims(), key)
    assert (await process.verifier().verify(token)).user_id == "usr_ada"


async def test_a_clock_that_is_minutes_behind_auths_does_no_harm(process: AuthProcess) -> None:
    key = await private_key(process)
    ahead = claims(iat=timedelta(minutes=4))
    token = jwt.encode({"alg": ALGORITHM, "kid": key.kid}, ahead, key)
    assert (await process.verifier().verify(token)).user_id == "usr_ada"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-shop"},
        {"aud": None},
        {"iss": "another-issuer"},
        {"iss": None},
        {"exp": timedelta(minutes=-1)},
        {"exp": None},
        {"sub": None},
    ],
    ids=str,
)
async def test_wrong_claims_are_refused(process: AuthProcess, changes: dict[str, Any]) -> None:
    key = await private_key(process)
    token = jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims(**changes), key)
    await assert_refused(process, token)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
async def test_an_unsigned_token_is_refused(process: AuthProcess, algorithm: str) -> None:
    kid = (await process.keyring.public_keys())[0]["kid"]
    for signature in ("", "AAAA"):
        header = part({"alg": algorithm, "kid": kid, "typ": "JWT"})
        await assert_refused(process, f"{header}.{part(claims())}.{signature}")


async def test_the_public_key_is_no_shared_secret(process: AuthProcess) -> None:
    """The confusion of algorithms: HS256 with what everybody knows as its key."""
    (public,) = await process.keyring.public_keys()
    exported = (await private_key(process)).as_pem(private=False)
    for secret in (exported, json.dumps(public).encode()):
        key = OctKey.import_key(base64.urlsafe_b64encode(secret).decode())
        header = {"alg": "HS256", "kid": public["kid"]}
        await assert_refused(process, jwt.encode(header, claims(), key, algorithms=["HS256"]))


async def test_another_key_is_refused_under_any_name(process: AuthProcess) -> None:
    (public,) = await process.keyring.public_keys()
    forger = ECKey.generate_key("P-256", auto_kid=True)
    for kid in (public["kid"], forger.kid, "../../etc/passwd", "' OR 1=1"):
        await assert_refused(process, jwt.encode({"alg": ALGORITHM, "kid": kid}, claims(), forger))
    await assert_refused(process, jwt.encode({"alg": ALGORITHM}, claims(), forger))


async def test_a_key_that_the_token_brings_along_counts_for_nothing(process: AuthProcess) -> None:
    forger = ECKey.generate_key("P-256", auto_kid=True)
    header = {"alg": ALGORITHM, "kid": forger.kid, "jwk": forger.as_dict(private=False)}
    await assert_refused(process, jwt.encode(header, claims(), forger))


async def test_a_changed_token_is_refused(process: AuthProcess) -> None:
    header, _, signature = (await process.keyring.access_token(ADA)).split(".")
    await assert_refused(process, f"{header}.{part(claims(sub='usr_eve'))}.{signature}")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "ey.ey.ey", "\xff.\xff.\xff", "." * 9])
async def test_what_is_no_token_is_refused(process: AuthProcess, token: str) -> None:
    await assert_refused(process, token)


@pytest.mark.parametrize(
    "header",
    [
        [],
        7,
        None,
        "ES256",
        {},
        {"alg": 7},
        {"alg": ["ES256"]},
        {"alg": ALGORITHM, "kid": 7},
        {"alg": ALGORITHM, "kid": None},
        {"alg": ALGORITHM, "kid": ["a"]},
        {"alg": ALGORITHM, "kid": {}},
        {"alg": ALGORITHM, "crit": ["exp"]},
        {"alg": ALGORITHM, "b64": False, "crit": ["b64"]},
        {"alg": ALGORITHM, "typ": 7},
    ],
    ids=str,
)
async def test_a_header_of_another_form_is_refused(process: AuthProcess, header: object) -> None:
    await assert_refused(process, f"{part(header)}.{part(claims())}.AAAA")


@pytest.mark.parametrize(
    "payload",
    [
        [],
        7,
        None,
        "claims",
        {"exp": "tomorrow"},
        {"exp": []},
        {"exp": 1e400},
        {"aud": {}},
        {"aud": [["meshmart-shop"]]},
        {"iat": "now"},
        {"iat": timedelta(hours=1)},
        {"nbf": timedelta(hours=1)},
    ],
    ids=str,
)
async def test_claims_of_another_form_are_refused_though_signed(
    process: AuthProcess, payload: object
) -> None:
    key = await private_key(process)
    if isinstance(payload, dict):
        payload = claims(**payload)
    signed = jws.serialize_compact(
        {"alg": ALGORITHM, "kid": key.kid}, json.dumps(payload).encode(), key
    )
    await assert_refused(process, signed)


async def test_an_expired_token_is_refused(harness: AuthHarness) -> None:
    async with AuthHarness(harness.data, ManualWallClock(ago_seconds=960)).process() as process:
        await assert_refused(process, await process.keyring.access_token(ADA))
