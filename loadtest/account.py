"""A customer's account, which is registered once, since a password hash is expensive by design."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from loadtest.answers import Tokens
from loadtest.shop import Answer, Shop

# A token is renewed when this much of its life is left, so that it cannot expire on its way.
_RESERVE = 0.1


class Account:
    """One account and its session."""

    def __init__(self, shop: Shop) -> None:
        self.email = f"load-{uuid.uuid4().hex}@example.com"
        self._shop = shop
        self._password = uuid.uuid4().hex
        self._is_registered = False
        self._tokens: Tokens | None = None
        self._renew_at = 0.0

    def authorization(self) -> Mapping[str, str]:
        """Returns the header with the token. Registers, logs in or renews the session if needed."""
        if not self._is_registered:
            self._register()
        elif self._tokens is None:
            self.log_in()
        elif time.monotonic() > self._renew_at:
            self.refresh()
        assert self._tokens is not None, "a step that fails does not return"
        return {"authorization": f"Bearer {self._tokens.access_token}"}

    def log_in(self) -> None:
        """Begins another session."""
        credentials = {"email": self.email, "password": self._password}
        with self._shop.request(
            "POST", "/api/auth/login", step="account: log in", json=credentials
        ) as answer:
            self._keep(answer)

    def refresh(self) -> None:
        """Renews the session. A refresh token works once: after a lost answer, log in again."""
        old = self._given_up()
        with self._shop.request(
            "POST",
            "/api/auth/refresh",
            step="account: refresh",
            json={"refresh_token": old.refresh_token},
        ) as answer:
            new = self._keep(answer)
            assert new.refresh_token != old.refresh_token, "a refresh token was given out twice"

    def log_out(self) -> None:
        """Ends the session."""
        old = self._given_up()
        with self._shop.request(
            "POST",
            "/api/auth/logout",
            step="account: log out",
            expect=(204,),
            json={"refresh_token": old.refresh_token},
        ):
            pass

    def _given_up(self) -> Tokens:
        assert self._tokens is not None, "there is a session: its authorization was asked for"
        given_up, self._tokens = self._tokens, None
        return given_up

    def _register(self) -> None:
        body = {"email": self.email, "password": self._password, "name": "Ada Lovelace"}
        with self._shop.request(
            "POST", "/api/auth/register", step="account: register", expect=(201,), json=body
        ) as answer:
            self._keep(answer)
            self._is_registered = True

    def _keep(self, answer: Answer) -> Tokens:
        self._tokens = answer.read(Tokens)
        self._renew_at = time.monotonic() + (1 - _RESERVE) * self._tokens.expires_in
        return self._tokens
