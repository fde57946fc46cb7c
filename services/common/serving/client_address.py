"""The address of the client that sent a request, as the proxies in front report it."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from starlette.types import Scope

FORWARDED_FOR = "x-forwarded-for"
_NAME = FORWARDED_FOR.encode()


def client_address(scope: Scope, proxies_in_front: int) -> str:
    """Returns the IP address of the client; empty when it is not known.

    Each proxy appends the address that it sees, so what counts is that many entries from the right
    of X-Forwarded-For; whatever the client wrote itself stands further left. A list with fewer
    entries comes from a nearer proxy, which has replaced it.

    :param proxies_in_front: how many proxies are trusted; 0 ignores the header.
    """
    client = scope.get("client")
    peer = _normalised(client[0]) if client else ""
    if proxies_in_front == 0:
        return peer
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == _NAME]
    entries = [entry.strip() for entry in ",".join(lines).split(",")]
    return _normalised(entries[-proxies_in_front:][0]) or peer


@lru_cache(maxsize=1024)  # most requests come from few addresses, and parsing one takes 4 µs
def _normalised(address: str) -> str:
    """The one spelling of an address; empty for anything else."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:  # what a socket for both versions calls IPv4
            return str(parsed.ipv4_mapped)
        if parsed.scope_id is not None:  # names an interface of this machine
            return str(ipaddress.IPv6Address(int(parsed)))
    return str(parsed)
