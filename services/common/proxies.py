"""The proxy for calls that leave the shop, as the environment names it."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

from yarl import URL


def proxy_for(url: str) -> str | None:
    """Returns the proxy for a URL, None where it is to be asked directly.

    It is that of `https_proxy` or `http_proxy`, by the URL's scheme, else of `all_proxy`; each may
    be in upper case. Hosts that `no_proxy` names and this machine are asked directly.
    """
    target = URL(url)
    host = target.host or ""
    if _is_here(host) or proxy_bypass(f"{host}:{target.port}"):
        return None
    named = getproxies()
    proxy = named.get(target.scheme) or named.get("all")
    if proxy is None:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
