"""Where people find the shop: what makes the addresses in its pages absolute."""

from __future__ import annotations

import re

from starlette.requests import Request

# A name, an IPv4 address or one of IPv6 in brackets, and maybe a port (RFC 9110 §7.2).
_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?",
    re.IGNORECASE,
)


class Origin:
    """The shop's public origin.

    :param shop_url: as the shop's operator set it; empty where each visitor's own way in counts.
    :param secure: whether people come over https.
    """

    def __init__(self, shop_url: str, *, secure: bool) -> None:
        self._shop_url = shop_url
        self._scheme = "https" if secure else "http"

    def of(self, request: Request) -> str:
        """The origin without a slash at its end, such as ``https://shop.example``; empty where
        neither the setting nor the request says it.
        """
        if self._shop_url:
            return self._shop_url
        host = request.headers.get("host", "")
        return f"{self._scheme}://{host.lower()}" if _HOST.fullmatch(host) else ""
