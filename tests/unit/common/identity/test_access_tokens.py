"""Access tokens: what is accepted, and how the keys to check them with are kept."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from services.common import context
from services.common.context import RequestContext
from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import (
    AUDIENCE,
    ISSUER,
    JWKS_CACHE_SECONDS,
    Caller,
    TokenVerifier,
)
from services.common.identity.caller_dependency import require_caller
from tests.unit.common.kit import ManualClock

FIRST = ECKey.generate_key("P-256", {"kid": "first"})
SECOND = ECKey.generate_key("P-256", {"kid": "second"})


class KeyPublisher:
    """Publishes keys, and counts who asks for them."""

    def __init__(self, *keys: ECKey) -> None:
        self.keys = keys
        self.asked = 0
        self.answer: Any = None
        self.away = False

    async def fetch(self) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise ShopError(Kind.UNAVAILABLE, "auth-unavailable", "auth cannot be reached.")
        return self.answer or KeySet(list(self.keys)).as_dict(private=False)


@pytest.fixture
def auth() -> KeyPublisher:
    return KeyPublisher(FIRST)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def verifier(auth: KeyPublisher, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(auth.fetch, clock=clock)


def in_seconds(seconds: int) -> int:
    """A time as claims tell it."""
    return int(time.time()) + seconds


def token(key: ECKey = FIRST, *, without: str = "", expires_in: int = 60, **changes: Any) -> str:
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "usr_ada",
        "exp": in_seconds(expires_in),
        "email": "ada@example.com",
        "name": "Ada",
        "groups": ["beta"],
        **changes,
    }
    claims.pop(without, None)
    return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


async def refusal(verifier: TokenVerifier, text: str) -> ShopError:
    with pytest.raises(ShopError) as refused:
        await verifier.verify(text)
    return refused.value


@pytest.mark.parametrize("names_user", [True, False])
async def test_a_span_names_the_user_only_where_that_is_wanted(
    auth: KeyPublisher, names_user: bool
) -> None:
    verifier = TokenVerifier(auth.fetch, names_user=names_user)
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        assert isinstance(span, ReadableSpan)
        await refusal(verifier, token(SECOND))
        assert "user.id" not in (span.attributes or {}), "nobody is named before they are verified"
        await verifier.verify(token())
    assert (span.attributes or {}).get("user.id") == ("usr_ada" if names_user else None)


async def test_a_token_of_ours_tells_who_calls(verifier: TokenVerifier) -> None:
    assert await verifier.verify(token()) == Caller("usr_ada", "ada@example.com", "Ada", ("beta",))


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_in": -60},
        {"iss": "somebody-else"},
        {"aud": "another-shop"},
        {"without": "exp"},
        {"without": "sub"},
        {"without": "iss"},
        {"without": "aud"},
    ],
    ids=str,
)
async def test_claims_that_do_not_hold_are_refused(
    verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    error = await refusal(verifier, token(**changes))
    assert (error.kind, error.code) == (Kind.UNAUTHENTICATED, "invalid-token")


async def test_a_token_of_tomorrow_is_refused_today(verifier: TokenVerifier) -> None:
    for text in (
        token(expires_in=7200, nbf=in_seconds(240)),
        token(expires_in=7200, iat=in_seconds(3600)),
    ):
        error = await refusal(verifier, text)
        assert (error.kind, error.code) == (Kind.UNAUTHENTICATED, "invalid-token")


async def test_a_clock_that_is_a_little_off_does_no_harm(verifier: TokenVerifier) -> None:
    assert await verifier.verify(token(expires_in=-2))
    assert await verifier.verify(token(expires_in=1200, iat=in_seconds(240)))


def stolen() -> str:
    return encoded({"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_root", "exp": in_seconds(600)})


def forged_by_another_key() -> str:
    impostor = ECKey.generate_key("P-256", {"kid": "first"})
    return token(impostor)


def forged_claims() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{stolen()}.{signature}"


def unsigned() -> str:
    _, claims, _ = token().split(".")
    return f"{encoded({'alg': 'none'})}.{claims}."


def signed_with_the_public_key_as_a_secret() -> str:
    head = encoded({"alg": "HS256", "kid": "first"})
    signed = f"{head}.{stolen()}"
    mac = hmac.digest(FIRST.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def with_a_header_of_the_wrong_types() -> str:
    _, claims, signature = token().split(".")
    return f"{encoded({'alg': 'ES256', 'kid': 'first', 'crit': 1})}.{claims}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        forged_by_another_key,
        forged_claims,
        unsigned,
        signed_with_the_public_key_as_a_secret,
        with_a_header_of_the_wrong_types,
    ],
)
async def test_forged_tokens_are_refused(verifier: TokenVerifier, forge: Any) -> None:
    error = await refusal(verifier, forge())
    assert (error.kind, error.code) == (Kind.UNAUTHENTICATED, "invalid-token")


PART = st.one_of(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["alg", "kid", "crit", "b64", "typ", "sub"]), inner, max_size=3
            )
        ),
        max_leaves=4,
    ).map(encoded),
)


@given(st.lists(PART, max_size=4).map(".".join))
async def test_what_is_no_token_is_refused(garbage: str) -> None:
    error = await refusal(TokenVerifier(KeyPublisher(FIRST).fetch), garbage)
    assert error.kind is Kind.UNAUTHENTICATED


async def test_keys_are_fetched_once_for_many(auth: KeyPublisher, verifier: TokenVerifier) -> None:
    await asyncio.gather(*(verifier.verify(token()) for _ in range(20)))
    assert auth.asked == 1


async def test_keys_are_fetched_anew_when_they_are_old(
    auth: KeyPublisher, verifier: TokenVerifier, clock: ManualClock
) -> None:
    await verifier.verify(token())
    clock.advance(JWKS_CACHE_SECONDS - 1)
    await verifier.verify(token())
    assert auth.asked == 1
    clock.advance(1)
    await verifier.verify(token())
    assert auth.asked == 2


async def test_a_key_that_is_gone_no_longer_counts(
    auth: KeyPublisher, verifier: TokenVerifier, clock: ManualClock
) -> None:
    await verifier.verify(token())
    auth.keys = (SECOND,)
    clock.advance(JWKS_CACHE_SECONDS)
    assert (await refusal(verifier, token(FIRST))).kind is Kind.UNAUTHENTICATED
    assert await verifier.verify(token(SECOND))


async def test_a_new_key_is_found_at_once(
    auth: KeyPublisher, verifier: TokenVerifier, clock: ManualClock
) -> None:
    await verifier.verify(token())
    auth.keys = (FIRST, SECOND)
    clock.advance(6)
    assert await verifier.verify(token(SECOND))
    assert auth.asked == 2


@pytest.mark.parametrize("away", [False, True])
async def test_unknown_keys_cause_no_flood_of_fetches(
    auth: KeyPublisher, verifier: TokenVerifier, clock: ManualClock, away: bool
) -> None:
    await verifier.verify(token())
    auth.away = away
    clock.advance(6)
    for _ in range(20):
        assert (await refusal(verifier, token(SECOND))).kind is Kind.UNAUTHENTICATED
    assert auth.asked == 2
    clock.advance(5)
    await refusal(verifier, token(SECOND))
    assert auth.asked == 3


@pytest.mark.parametrize(
    "answer", [{"keys": [{"kty": "EC"}]}, {"keys": 1}, {"no": "keys"}, [], "x"]
)
async def test_keys_are_kept_while_there_are_no_better_ones(
    auth: KeyPublisher, verifier: TokenVerifier, clock: ManualClock, answer: Any
) -> None:
    await verifier.verify(token())
    auth.answer = answer
    clock.advance(JWKS_CACHE_SECONDS)
    for _ in range(20):
        assert await verifier.verify(token())
    assert auth.asked == 2, "auth is left alone for a while after a failure"
    auth.answer, auth.away = None, True
    clock.advance(10 * JWKS_CACHE_SECONDS)
    assert await verifier.verify(token())


async def test_without_any_keys_nobody_is_told_to_log_in(
    auth: KeyPublisher, verifier: TokenVerifier
) -> None:
    auth.away = True
    assert (await refusal(verifier, token())).kind is Kind.UNAVAILABLE
    auth.away, auth.answer = False, {"keys": [{"kty": "EC"}]}
    error = await refusal(verifier, token())
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "bad-keys")
    auth.answer = None
    assert await verifier.verify(token()), "and the first keys are tried for at once"


async def test_the_caller_is_that_of_the_requests_token(verifier: TokenVerifier) -> None:
    with context.serving(RequestContext(deadline=0.0, token=token())):
        assert (await require_caller(verifier)).user_id == "usr_ada"
    with context.serving(RequestContext(deadline=0.0)), pytest.raises(ShopError) as refused:
        await require_caller(verifier)
    assert (refused.value.kind, refused.value.code) == (Kind.UNAUTHENTICATED, "no-token")
