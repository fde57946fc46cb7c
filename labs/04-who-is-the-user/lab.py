"""The mesh verifies tokens, but requires none, and accepts those for other applications."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.errors import CommandFailed
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.visitor import CATALOGUE, Answer, Visitor

HERE = Path(__file__).parent
_SIGN = HERE / "sign.py"
_INBOX = "/api/notifications"
# As frontend asks for it, when it makes the page of an inbox.
_ASKED_BY_FRONTEND: Mapping[str, Any] = {
    "method": "GET",
    "url": f"http://notification-service:3000{_INBOX}",
}
_GOOD = "good"
# What sign.py makes, by how a check calls it.
_BAD: Mapping[str, str] = {
    "forged": "that is forged",
    "expired": "that has expired",
    "for-another-shop": "that is for another shop",
    "of-another-issuer": "of another issuer",
}
_REFUSED = (401, 403)


class WhoIsTheUser(MeshedExercise):
    """The inboxes of customers, which notification keeps."""

    async def solve(self, shop: MeshedShop) -> None:
        await shop.apply_of_mesh("base/tokens.yaml")
        await shop.apply_of_mesh("base/authorization.yaml")

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        tokens = await _signed(shop, [_GOOD, *_BAD])
        async with shop.visitor() as visitor:
            yield await _own_inbox(visitor, shop)
            nobody = await visitor.send("GET", _INBOX)
            yield _stopped_by_the_mesh(nobody, "a request without a token", _rules(shop))
            yield await _wrong_tokens(visitor, tokens, shop)
            yield await _by_frontend(shop, tokens)
            catalogue = await visitor.send("GET", CATALOGUE)
            yield judged(
                catalogue.status == 200,
                "the catalogue is open to everybody, without a token",
                f"a request for the catalogue without a token gets {catalogue.status}",
                _rules(shop),
            )
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy",
                f"a customer cannot buy (the answer is {order.status})",
                _rules(shop),
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        yield await shop.audit()


async def _signed(shop: MeshedShop, wanted: Sequence[str]) -> Mapping[str, str]:
    """Tokens signed with the shop's key; none where auth has no pod to sign them in."""
    sign = ("python", "-c", _SIGN.read_text(encoding="utf-8"), *wanted)
    try:
        said = await shop.kubectl("exec", "deployment/auth-service", "-c", "auth", "--", *sign)
    except CommandFailed:
        return {}
    return dict(zip(wanted, said.split(), strict=True))


async def _own_inbox(visitor: Visitor, shop: MeshedShop) -> Finding:
    """Whether a customer reads their own, with the token that auth gives them."""
    guest = {"email": f"{uuid.uuid4().hex}@example.com", "name": "Ada"}
    session = await visitor.send("POST", "/api/auth/guest", json=guest)
    if session.status != 201:
        return wrong(
            f"nobody gets a token (auth answers {session.status})", "auth's pod, and its log"
        )
    inbox = await _inbox(visitor, session.body["access_token"])
    by = inbox.served.service if inbox.served else "the mesh"
    return judged(
        inbox.status == 200,
        "a customer reads their own inbox",
        f"a customer with a good token gets {inbox.status} from {by} for their own inbox",
        f"{_verification(shop)}: does the proxy pass on the token?",
    )


async def _wrong_tokens(visitor: Visitor, tokens: Mapping[str, str], shop: MeshedShop) -> Finding:
    """Whether the mesh stops each, and none that is right."""
    if not tokens:
        return wrong("this check cannot sign tokens", "auth's pod: start the lab again")
    if (await _inbox(visitor, tokens[_GOOD])).served is None:
        return wrong(
            "the mesh refuses a good token",
            _verification(shop),
        )
    for what, words in _BAD.items():
        finding = _stopped_by_the_mesh(
            await _inbox(visitor, tokens[what]), f"a token {words}", _verification(shop)
        )
        if not finding.is_right:
            return finding
    return right(f"the mesh refuses a token {', one '.join(_BAD.values())}")


async def _by_frontend(shop: MeshedShop, tokens: Mapping[str, str]) -> Finding:
    """Whether the mesh asks frontend for a token, too, and lets it in with one."""
    headers = {"authorization": f"Bearer {tokens.get(_GOOD, '')}"}
    try:
        without, with_one = await shop.probe(
            *("deployment/frontend", "frontend"),
            [_ASKED_BY_FRONTEND, {**_ASKED_BY_FRONTEND, "headers": headers}],
        )
    except CommandFailed:
        return wrong("frontend has no pod that could request an inbox", "frontend's pods")
    if without.outcome == "answered":
        return wrong(
            "a request from frontend without a token gets through the mesh: notification itself "
            f"answers {without.detail}",
            _rules(shop),
        )
    return judged(
        with_one.outcome == "answered",
        "the mesh lets frontend read an inbox with a token, and not without one",
        "frontend, which shows customers their inboxes, does not get through the mesh with a good "
        f"token ({with_one.detail[:60]})",
        _rules(shop),
    )


def _stopped_by_the_mesh(answer: Answer, what: str, look: str) -> Finding:
    """Whether it is refused before the service hears of it: an answer of the service's own says who
    has made it.
    """
    if answer.served is not None:
        return wrong(
            f"{what} gets through the mesh: {answer.served.service} itself answers {answer.status}",
            look,
        )
    return judged(
        answer.status in _REFUSED,
        f"the mesh refuses {what} ({answer.status})",
        f"{what} is not refused with 401 or 403, but gets {answer.status}",
        "notification's pods: do they run?",
    )


async def _inbox(visitor: Visitor, token: str) -> Answer:
    return await visitor.send("GET", _INBOX, headers={"authorization": f"Bearer {token}"})


def _verification(shop: MeshedShop) -> str:
    namespace = shop.where.namespace
    return f"kubectl -n {namespace} get requestauthentication notification-service -o yaml"


def _rules(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get authorizationpolicies.security.istio.io"
    return f"{get} notification-service -o yaml: what does it require of the user?"


LAB = Lab(
    HERE,
    meshed=WhoIsTheUser(HERE),
    not_in={
        "linkerd": "Linkerd reads no tokens, so there is nothing to set: the services verify them "
        "(mesh/linkerd/scenarios/15-user-rules)"
    },
    hints=(
        "Three things are missing in two objects: one object verifies tokens, the other one says "
        "who may do what. Compare both with those of another service that requires users, such as "
        "`user`.",
        "A RequestAuthentication refuses bad tokens. It does not refuse a request without a token: "
        "only the AuthorizationPolicy can require a user, by `requestPrincipals`. And does the "
        "proxy pass on a token that it has verified?",
        "requestauthentication/notification-service needs `audiences: [meshmart-shop]` and "
        "`forwardOriginalToken: true`; the policy notification-service needs `requestPrincipals: "
        "[meshmart/*]` for the gateway and for frontend: mesh/istio/base/tokens.yaml and "
        "authorization.yaml.",
    ),
)
