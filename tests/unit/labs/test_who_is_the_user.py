"""Lab 04: what its check says of tokens that the mesh should have stopped, and of those it should
not have.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from joserfc.jwk import ECKey, KeySet

from labs.commands import ROOT
from labs.errors import CommandFailed
from labs.lab import LABS
from labs.meshed import Probed
from labs.visitor import CATALOGUE, Answer
from services.auth.model.keys import KEYS, SigningKey
from services.auth.store import KeyStore
from services.common.call_record import Served
from services.common.documents import Documents, open_store
from services.common.errors import ShopError
from services.common.identity.access_tokens import TokenVerifier
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import Object, Shop, rendered

_WITHOUT = "without"
_SIGN = LABS / "04-who-is-the-user/sign.py"
_START = LABS / "04-who-is-the-user/start/istio/inbox.yaml"


@dataclass
class Shop04(PretendedShop):
    """A shop in Istio, and somebody at its gateway.

    :ivar lets_through: the token, by its name in sign.py, of which the service hears though it
        should not; or WITHOUT one.
    :ivar own: the status of a customer's own inbox.
    :ivar good: whether a token that sign.py makes and with which nothing is wrong gets through.
    :ivar frontend: what comes of frontend's requests without a token and with one; None where it
        has no pod.
    :ivar guest: the status of the answer to who asks for a token.
    :ivar down: the status instead of a refusal.
    """

    lets_through: str = ""
    own: int = 200
    good: bool = True
    frontend: tuple[str, str] | None = ("denied", "answered")
    guest: int = 201
    catalogue: int = 200
    down: int = 403
    signs: bool = True

    async def send(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        if path == "/api/auth/guest":
            return Answer(self.guest, {"access_token": "own"}, None)
        if path == CATALOGUE:
            return Answer(self.catalogue, None, None)
        token = (headers or {}).get("authorization", _WITHOUT).removeprefix("Bearer ")
        if token == "own":
            return self._by_the_service(self.own)
        if token == self.lets_through or (token == "good" and self.good):
            return self._by_the_service(401)
        return Answer(self.down, None, None)

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        assert (pod, container) == ("deployment/frontend", "frontend")
        if self.frontend is None:
            raise CommandFailed("no pod")
        assert ["headers" in each for each in requests] == [False, True]
        return [Probed(cast("Any", each), "401", "") for each in self.frontend]

    def _by_the_service(self, status: int) -> Answer:
        return Answer(status, None, Served("notification", "v1", "notification", 1.0))

    async def kubectl(self, *arguments: str) -> str:
        if not self.signs:
            raise CommandFailed("no pod")
        after = arguments.index("-c", arguments.index("python")) + 2
        return "\n".join(arguments[after:]) + "\n"


async def test_what_is_right_is_told_right() -> None:
    told = Shop04()

    findings = await findings_of("04", told)

    assert [each.is_right for each in findings] == [True] * 7, findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


_BROKEN = [
    (
        Shop04(own=401),
        "a customer with a good token gets 401 from notification for their own inbox",
    ),
    (Shop04(guest=503), r"nobody gets a token \(auth answers 503\)"),
    (Shop04(lets_through=_WITHOUT), "without a token gets through the mesh: notification itself"),
    (Shop04(lets_through="forged"), "a token that is forged gets through"),
    (Shop04(lets_through="expired"), "a token that has expired gets through"),
    (
        Shop04(lets_through="for-another-shop"),
        "a token that is for another shop gets through",
    ),
    (
        Shop04(lets_through="of-another-issuer"),
        "a token of another issuer gets through",
    ),
    (
        Shop04(frontend=("answered", "answered")),
        "a request from frontend without a token gets through the mesh: notification itself answer",
    ),
    (Shop04(frontend=("denied", "denied")), "frontend, .* does not get through the mesh with"),
    (Shop04(frontend=None), "frontend has no pod"),
    (Shop04(good=False), "the mesh refuses a good token"),
    (Shop04(signs=False), "this check cannot sign tokens"),
    (Shop04(down=503), "without a token is not refused with 401 or 403, but gets 503"),
    (Shop04(catalogue=403), "a request for the catalogue without a token gets 403"),
    (Shop04(order=403), r"a customer cannot buy \(the answer is 403\)"),
]


@pytest.mark.parametrize(("told", "sentence"), _BROKEN, ids=map(str, range(len(_BROKEN))))
async def test_what_is_wrong_is_told_wrong(told: Shop04, sentence: str) -> None:
    wrong = [each for each in await findings_of("04", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"


def test_the_start_leaves_out_what_the_lab_is_about_and_nothing_else() -> None:
    started = list(yaml.safe_load_all(_START.read_text(encoding="utf-8")))
    files = ("base/tokens.yaml", "base/authorization.yaml")
    verification, rules = (_of_notification(rendered(Shop(), file)) for file in files)
    (rule,) = verification["spec"]["jwtRules"]
    del rule["audiences"], rule["forwardOriginalToken"]
    for each in rules["spec"]["rules"]:
        for caller in each["from"]:
            caller["source"].pop("requestPrincipals", None)

    assert started == [verification, rules]


async def test_of_the_tokens_that_are_signed_a_service_takes_the_good_one_alone(
    tmp_path: Path,
) -> None:
    key = ECKey.generate_key("P-256", {"kid": "key-1"})
    url = f"sqlite:///{tmp_path}"
    store = open_store(url, "auth")
    documents = await Documents.open(store, KEYS, SigningKey)
    private = {name: str(value) for name, value in key.as_dict(private=True).items()}
    stored = SigningKey(id="1", generation=1, active_from_ms=0, private_jwk=private)
    assert await KeyStore(documents).add(stored)
    await store.close()
    names = ("good", "forged", "expired", "for-another-shop", "of-another-issuer")

    async def fetched() -> Any:
        return KeySet([key]).as_dict(private=False)

    verifier = TokenVerifier(fetched)
    good, *bad = _signed(url, *names)
    assert (await verifier.verify(good)).user_id == "somebody"
    assert len(bad) == len(names) - 1
    for token in bad:
        with pytest.raises(ShopError, match="not valid"):
            await verifier.verify(token)


def _signed(url: str, *names: str) -> list[str]:
    """What sign.py prints beside a database of auth's."""
    done = subprocess.run(
        [sys.executable, "-c", _SIGN.read_text(encoding="utf-8"), *names],
        env={**os.environ, "DATABASE_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def _of_notification(objects: list[Object]) -> Object:
    (found,) = (each for each in objects if each["metadata"]["name"] == "notification-service")
    return found
