"""The real browser of the browser tests and the screenshots: the machine's own Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncGenerator, Mapping

from playwright.async_api import Browser, async_playwright

MISSING = (
    "Chromium is not installed: there must be a command `chromium`, `chromium-browser` or "
    "`google-chrome` (Debian: apt install chromium)."
)

# The last flag of this name counts, so this one repeats the names in Playwright's.
_WITHOUT = (
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
    # What an address bar shows below itself: two pages of its own for each window, and a third of
    # all that the browser does in these tests.
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxPopup",
)
_COMMANDS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # CI runs as root; the only pages are the shop's own
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    f"--disable-features={','.join(_WITHOUT)}",
    "--no-first-run",
)


def chromium() -> str | None:
    """Where this machine has a Chromium; None when it has none."""
    return next((path for path in map(shutil.which, _COMMANDS) if path), None)


@contextlib.asynccontextmanager
async def open_browser(
    executable: str, hosts: Mapping[str, str] | None = None
) -> AsyncGenerator[Browser]:
    """A browser without windows, closed at the end.

    :param hosts: the addresses of further hosts. Whatever else Chromium wants from elsewhere is not
        to be found.
    """
    rules = [f"MAP {host} {address}" for host, address in (hosts or {}).items()]
    resolver = ", ".join([*rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"])
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=[*_FLAGS, f"--host-resolver-rules={resolver}"]
        )
        try:
            yield browser
        finally:
            await browser.close()
