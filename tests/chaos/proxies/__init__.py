"""Proxies between the shop's processes, and all that they can do to a call."""

from tests.chaos.proxies.edge import Edge
from tests.chaos.proxies.faults import FORWARDED, NO_FAULTS, Fault, Faults
from tests.chaos.proxies.proxies import FRONTEND, PEOPLE, STRIPE, Proxies
from tests.chaos.proxies.relay import TcpFault

__all__ = (
    "FORWARDED",
    "FRONTEND",
    "NO_FAULTS",
    "PEOPLE",
    "STRIPE",
    "Edge",
    "Fault",
    "Faults",
    "Proxies",
    "TcpFault",
)
