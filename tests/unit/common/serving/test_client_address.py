"""Who a client is, where proxies are believed and where nobody is."""

from __future__ import annotations

import pytest

from services.common.serving.client_address import client_address

PEER, CLIENT, FORGED = "192.0.2.1", "198.51.100.7", "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "lines", "proxies_in_front", "client"),
    [
        (PEER, [], 0, PEER),
        (PEER, [FORGED], 0, PEER),
        (PEER, [CLIENT], 1, CLIENT),
        (PEER, [f"{FORGED}, {CLIENT}"], 1, CLIENT),
        (PEER, [f"{FORGED},{CLIENT}\t"], 1, CLIENT),
        (PEER, [FORGED, CLIENT], 1, CLIENT),
        (PEER, [f"{FORGED}, {CLIENT}, 10.0.0.1"], 2, CLIENT),
        (PEER, [f"{FORGED}, {CLIENT}", "10.0.0.1"], 2, CLIENT),
        (PEER, [CLIENT], 2, CLIENT),
        (PEER, [], 1, PEER),
        (PEER, [""], 1, PEER),
        (PEER, ["unknown"], 1, PEER),
        (PEER, [f"{CLIENT}, "], 1, PEER),
        (PEER, ["198.51.100.7\x00"], 1, PEER),
        (PEER, ["2001:DB8:0::1"], 1, "2001:db8::1"),
        ("::ffff:192.0.2.1", [], 0, PEER),
        (PEER, ["::ffff:198.51.100.7"], 1, CLIENT),
        ("fe80::1%eth0", [], 0, "fe80::1"),
        (None, [], 0, ""),
        (None, [CLIENT], 1, CLIENT),
    ],
)
def test_the_client_is_whom_the_trusted_proxies_have_seen(
    peer: str | None, lines: list[str], proxies_in_front: int, client: str
) -> None:
    scope = {
        "client": None if peer is None else (peer, 50000),
        "headers": [
            (b"host", b"shop"),
            *((b"x-forwarded-for", line.encode()) for line in lines),
            (b"forwarded", b"for=203.0.113.9"),
        ],
    }
    assert client_address(scope, proxies_in_front) == client
