"""Who may act for whom: users' tokens are verified by each service, and where the mesh can do it,
before the service sees them.
"""

from __future__ import annotations

import time

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from services.auth.model import keys as schedule
from services.auth.model.keys import KEYS, SigningKey
from services.auth.store import KeyStore
from services.common.documents import Documents, open_store
from services.common.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER
from tests.mesh.meshed import Mesh
from tests.testkit.customer import Client, Customer

PATH = "/api/users/me"
BY_MESH = "RBAC: access denied"


async def signing_key(mesh: Mesh) -> ECKey:
    """The one that `auth` signs with, out of its database."""
    password = mesh.namespace.secret("mongodb", "password")
    with mesh.namespace.forwarded("pod/mongodb-0", 27017) as address:
        store = open_store(f"mongodb://root:{password}@{address}/?directConnection=true", "auth")
        try:
            stored = await KeyStore(Documents(store, KEYS, SigningKey)).all()
        finally:
            await store.close()
    active = schedule.active_key([each.value for each in stored], int(time.time() * 1000))
    return ECKey.import_key(dict(active.private_jwk))


def token(key: ECKey, *, kid: str | None = None, **changes: object) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": int(time.time()) + 600}
    header = {"alg": ALGORITHM, "kid": kid or key.kid}
    return jwt.encode(header, {**claims, **changes}, key, algorithms=[ALGORITHM])


async def test_a_users_own_token_opens_the_way(client: Client) -> None:
    assert (await (await Customer.register(client)).send("GET", PATH)).status == 200


async def test_without_a_token_nobody_is_let_in(mesh: Mesh, client: Client) -> None:
    answer = await client.send("GET", PATH)
    if mesh.verifies_users:
        assert (answer.status, answer.text) == (403, BY_MESH)
    else:
        assert (answer.status, answer.code) == (401, "no-token")


@pytest.mark.parametrize("wrong", ["forged", "expired", "of-another-issuer", "for-others"])
async def test_a_wrong_token_is_refused(mesh: Mesh, client: Client, wrong: str) -> None:
    key = await signing_key(mesh)
    sent = {
        "forged": token(ECKey.generate_key("P-256"), kid=key.kid),
        "expired": token(key, exp=int(time.time()) - 3600),
        "of-another-issuer": token(key, iss="https://evil.example.com"),
        "for-others": token(key, aud="another-shop"),
    }[wrong]
    answer = await client.send("GET", PATH, headers={"authorization": f"Bearer {sent}"})
    assert answer.status in {401, 403}
    if mesh.verifies_users:
        assert answer.body is None, "a service would have answered with a problem"
        assert answer.text.startswith(("Jwt", "Audiences")), answer.text
    else:
        assert answer.code == "invalid-token", answer.text


async def test_a_token_of_that_key_passes(mesh: Mesh, client: Client) -> None:
    """So it is not the way these tests make tokens that is refused."""
    headers = {"authorization": f"Bearer {token(await signing_key(mesh))}"}
    answer = await client.send("GET", PATH, headers=headers)
    assert (answer.status, answer.code) == (401, "account-gone"), "the service's own words"
