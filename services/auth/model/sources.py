"""Where an attempt comes from: a client's network, or a browser that has been let in before."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

# One subscriber has at least a /64 (RFC 6177 §2) and may choose a new address in it each time. An
# IPv4 address stands alone: its neighbours are other people, and often many share it already.
_IPV6_PREFIX_LENGTH = 64


class Source(NamedTuple):
    """Whose failures are counted together.

    :ivar network: see :func:`client_network`.
    :ivar device: the id of a browser that is known for the account in question.
    """

    network: str
    device: str | None = None

    @property
    def key(self) -> str:
        """Who this is, as far as can be told."""
        return f"network {self.network}" if self.device is None else f"device {self.device}"

    @property
    def line(self) -> str:
        """The line in which it waits for a turn. A network has two, however many accounts somebody
        opens there: so nobody gets more turns by that, and a known browser waits for no stranger.
        """
        return f"{self.network} {'strangers' if self.device is None else 'known'}"


def client_network(address: str) -> str:
    """The network of an IP address: itself for IPv4, its /64 for IPv6. All that are not known are
    one network.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX_LENGTH), strict=False))
    return str(parsed)
