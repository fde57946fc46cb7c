"""Keys follow each other, and no token ever meets a verifier that does not know its key."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence

from services.auth.model.accounts import Account
from services.auth.model.keys import KeyPolicy, SigningKey, active_key, next_key_due
from services.common.identity.access_tokens import JWKS_CACHE_SECONDS
from tests.unit.auth.kit import POLICY, AuthHarness, AuthProcess, ManualWallClock

ADA = Account("usr_ada", "ada@example.com", "Ada Lovelace", ("beta",))


def kid_of(token: str) -> str:
    header = token.split(".", maxsplit=1)[0]
    kid: str = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    return kid


async def published(process: AuthProcess) -> list[str]:
    return [key["kid"] for key in await process.keyring.public_keys()]


def key(generation: int, active_from_ms: int) -> SigningKey:
    return SigningKey(
        id=f"generation_{generation}",
        generation=generation,
        active_from_ms=active_from_ms,
        private_jwk={},
    )


async def test_a_token_says_who_the_user_is(process: AuthProcess) -> None:
    caller = await process.verifier().verify(await process.keyring.access_token(ADA))
    assert (caller.user_id, caller.email, caller.name, caller.groups) == ADA[:4]


async def test_published_keys_are_public(process: AuthProcess) -> None:
    (jwk,) = await process.keyring.public_keys()
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")


async def test_processes_that_start_at_once_have_one_key(
    process: AuthProcess, another: AuthProcess
) -> None:
    tokens = await asyncio.gather(
        *(each.keyring.access_token(ADA) for each in (process, another) for _ in range(5))
    )
    (kid,) = {kid_of(token) for token in tokens}
    assert await published(process) == await published(another) == [kid]


async def test_processes_that_rotate_at_once_agree_on_the_next_key(harness: AuthHarness) -> None:
    async with harness.process() as one, harness.process() as another:
        await one.keyring.rotate()
        harness.clock.pass_seconds(86_400 - 1_800)
        await asyncio.gather(*(each.keyring.rotate() for each in (one, another) for _ in range(5)))
        kids = await published(one)
        assert len(kids) == 2
        assert await published(another) == kids
        for passed_seconds, signing in ((0, kids[0]), (1_799, kids[0]), (1, kids[1])):
            harness.clock.pass_seconds(passed_seconds)
            for each in (one, another):
                assert kid_of(await each.keyring.access_token(ADA)) == signing


async def test_a_retired_keys_tokens_stand_until_they_expire(harness: AuthHarness) -> None:
    # The verifier goes by the real time, so that is where this clock arrives when it verifies.
    harness = AuthHarness(harness.data, ManualWallClock(ago_seconds=86_400 + 2_000))
    async with harness.process() as process:
        await process.keyring.rotate()
        harness.clock.pass_seconds(86_400 - 300)
        await process.keyring.rotate()  # late: the key would have been due to be published before
        (old_kid, new_kid) = await published(process)
        harness.clock.pass_seconds(1_799)
        old = await process.keyring.access_token(ADA)
        harness.clock.pass_seconds(501)
        new = await process.keyring.access_token(ADA)
        assert (kid_of(old), kid_of(new)) == (old_kid, new_kid)

        await process.keyring.rotate()
        verifier = process.verifier()
        for token in (old, new):
            assert (await verifier.verify(token)).user_id == ADA.user_id

        harness.clock.pass_seconds(900)
        await process.keyring.rotate()
        assert await published(process) == [new_kid]


async def test_no_token_ever_meets_a_verifier_that_cannot_know_its_key(
    harness: AuthHarness,
) -> None:
    """An hour and a half of rotations, with one process that rotates and one that only reads."""
    policy = KeyPolicy(rotation_ms=600_000, publish_ms=400_000, access_token_ms=300_000)
    shown: list[set[str]] = []
    published_since_ms: dict[str, int] = {}
    good_until_ms: dict[str, int] = {}
    async with (
        harness.process(policy=policy) as rotating,
        harness.process(policy=policy) as reading,
    ):
        for _ in range(270):
            now_ms = harness.clock.now_ms
            await rotating.keyring.rotate()
            shown = [set(await published(each)) for each in (rotating, reading)]
            for kid in shown[0] & shown[1]:
                published_since_ms.setdefault(kid, now_ms)
            for each in (rotating, reading):
                kid = kid_of(await each.keyring.access_token(ADA))
                good_until_ms[kid] = now_ms + policy.access_token_ms
                if kid != next(iter(published_since_ms)):  # nobody can have cached less than none
                    lead_seconds = (now_ms - published_since_ms[kid]) / 1000
                    assert lead_seconds >= JWKS_CACHE_SECONDS
            still_good = {kid for kid, until_ms in good_until_ms.items() if until_ms > now_ms}
            assert still_good <= shown[0]
            assert still_good <= shown[1]
            harness.clock.pass_seconds(20)
    assert len(good_until_ms) == 9
    assert len(shown[0]) <= 3


def test_a_key_is_published_before_it_signs_even_after_a_long_pause() -> None:
    keys: Sequence[SigningKey] = [key(1, active_from_ms=0)]
    ends_ms = POLICY.rotation_ms
    assert next_key_due([], 5, POLICY) == (1, 5)
    assert next_key_due(keys, ends_ms - POLICY.publish_ms - 1, POLICY) is None
    assert next_key_due(keys, ends_ms - POLICY.publish_ms, POLICY) == (2, ends_ms)
    slept_ms = 7 * ends_ms
    assert next_key_due(keys, slept_ms, POLICY) == (2, slept_ms + POLICY.publish_ms)


def test_one_key_at_a_time_waits() -> None:
    keys = [key(1, active_from_ms=0), key(2, active_from_ms=1000)]
    assert next_key_due(keys, 999, POLICY) is None


def test_a_first_key_signs_though_this_clock_is_late() -> None:
    keys = [key(1, active_from_ms=1000)]
    assert active_key(keys, 10) is keys[0]
