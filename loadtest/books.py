"""The audit of a shop's books after a run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.local import data

_AUDIT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit of the shop has found.

    :ivar said: its last line.
    """

    is_balanced: bool
    said: str


def audited(base_url: str, folder: Path) -> AuditResult | None:
    """Audits the shop at an address; returns None unless its data is in the folder."""
    if not _is_shop_at(base_url, folder):
        return None
    command = [sys.executable, "-m", "services", "audit", "--data", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603  the project's own program
            command, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return AuditResult(is_balanced=False, said=f"no audit within {_AUDIT_SECONDS:.0f} s")
    lines = (done.stdout or done.stderr).strip().splitlines() or ["the audit printed nothing"]
    return AuditResult(is_balanced=done.returncode == 0, said=lines[-1])


def _is_shop_at(base_url: str, folder: Path) -> bool:
    shop = data.read_state(folder)
    here = urlsplit(base_url)
    urls = [urlsplit(each.url) for each in shop.of_service("frontend")] if shop else []
    return any((here.hostname, here.port) == (url.hostname, url.port) for url in urls)
