"""Buys something, as a customer of the public API does: ``python purchase.py BASE_URL [SECONDS]``.

With GATEWAY=HOST:PORT in the environment all connections go there, whatever host BASE_URL names;
its certificate is not verified, since one for trying vouches for itself.

Repeats what may succeed later until SECONDS are over (60), since a shop may open one service after
the other, and buys once. Prints the order, and how long it took from the start; ends with status 1
and a sentence when there is no paid order.
Needs nothing but Python: `helm test` runs it in the cluster, `make bench-install` outside of it.
"""

import http.client
import json
import os
import secrets
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

ITEM = "oak-serving-board"
_PAUSE_SECONDS = 0.2
# Longer than the shop's own limit for one request.
_TIMEOUT_SECONDS = 20.0


class _ThroughGateway(urllib.request.HTTPSHandler):
    """Connects to a gateway, and asks it for the host of the URL."""

    def __init__(self, address: str) -> None:
        super().__init__()
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, /, **options: Any) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(host, **options)
        plain = socket.create_connection(self._address, connection.timeout)
        connection.sock = self._tls.wrap_socket(plain, server_hostname=connection.host)
        return connection


class Refused(Exception):
    """An answer that is none of the wanted ones.

    :ivar is_final: whether asking again is of no use.
    """

    def __init__(self, what: str, *, is_final: bool = False) -> None:
        super().__init__(what)
        self.is_final = is_final


def main() -> int:
    """Gives the exit status."""
    base_url = sys.argv[1].rstrip("/")
    if gateway := os.environ.get("GATEWAY"):
        urllib.request.install_opener(urllib.request.build_opener(_ThroughGateway(gateway)))
    patience_seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    began = time.monotonic()
    try:
        order = _buy(base_url, began + patience_seconds)
    except (OSError, http.client.HTTPException, Refused) as error:
        print(f"No order at {base_url}: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    price = f"{order['total_cents'] / 100:.2f} {order['currency']}"
    print(f"order {order['order_id']} {order['state']}: {price}, after {seconds:.1f} s")
    return 0


def _buy(base_url: str, until: float) -> Any:
    token = _patiently(until, lambda: _register(base_url))
    headers = {"authorization": f"Bearer {token}", "idempotency-key": secrets.token_hex(16)}
    wanted = {
        "items": [{"product_id": ITEM, "quantity": 1}],
        "address": {
            "name": "Ada",
            "street": "Keizersgracht 1",
            "postal_code": "1015 CJ",
            "city": "Amsterdam",
            "country": "NL",
        },
        "payment_method": "pm_card_visa",
    }
    # Under one key it is one order, however often it is sent.
    order = _patiently(until, lambda: _send(base_url, "POST", "/api/orders", wanted, headers))
    settled_until = time.monotonic() + _TIMEOUT_SECONDS
    while order["state"] == "working" and time.monotonic() < settled_until:
        time.sleep(_PAUSE_SECONDS)
        order = _send(base_url, "GET", f"/api/orders/{order['order_id']}", None, headers)
    if order["state"] != "confirmed":
        raise Refused(f"the order ended {order['state']}: {order.get('reason')}")
    return order


def _register(base_url: str) -> str:
    person = {
        "email": f"{secrets.token_hex(8)}@example.com",
        "password": secrets.token_urlsafe(16),
        "name": "Ada",
    }
    return _send(base_url, "POST", "/api/auth/register", person)["access_token"]


def _patiently(until: float, step: Callable[[], Any]) -> Any:
    while True:
        try:
            return step()
        except (OSError, http.client.HTTPException, Refused) as error:
            is_final = isinstance(error, Refused) and error.is_final
            if is_final or time.monotonic() > until:
                raise
        time.sleep(_PAUSE_SECONDS)  # a shop that is not open cannot tell when it is


def _send(
    base_url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Any:
    request = urllib.request.Request(
        base_url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", **(headers or {})},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(
            f"{method} {path} is {error.code}: {error.read(500).decode(errors='replace')}",
            # A way in that does not know the shop yet says 404.
            is_final=error.code < 500 and error.code != 404,
        ) from None
    except json.JSONDecodeError as error:
        raise Refused(f"{method} {path} is no JSON: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
