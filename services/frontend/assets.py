"""The files in ``static/``: from memory, already compressed, before any application."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.call_record import Call
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.frontend.mesh_page.figures import FRONTEND, Entrance

STATIC = Path(__file__).parent / "static"
STATIC_PATH = "/static"

_OPERATION = f"GET {STATIC_PATH}/**"
_FOR_GOOD = b"public, max-age=31536000, immutable"
_FOR_NOW = b"public, max-age=300"

Headers = list[tuple[bytes, bytes]]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Representation:
    """A file as it is sent.

    :ivar etag: of these bytes (RFC 9110 §8.8.3.3).
    :ivar cached: the headers of an answer to who has it already (RFC 9110 §15.4.5).
    :ivar whole: those of an answer with the body.
    """

    body: bytes
    etag: bytes
    cached: Headers
    whole: Headers


@dataclass(frozen=True, slots=True)
class _Asset:
    """A file.

    :ivar exact_query: that of the address that pages name it by.
    :ivar compressed: None where compression saves nothing.
    """

    exact_query: bytes
    plain: _Representation
    compressed: _Representation | None


class Assets:
    """The files in ``static/``. Pages name them with a digest of their content, so browsers may
    keep them for good.

    As an ASGI app it refuses whatever :class:`AssetsFirst` leaves to the pages.
    """

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._assets: dict[str, _Asset] = {}
        for path in STATIC.iterdir():
            if path.is_file():
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:10]
                self._digests[path.name] = digest
                self._assets[f"{STATIC_PATH}/{path.name}"] = _asset(path.name, content, digest)

    def url(self, name: str) -> str:
        """The address of a file as it is now."""
        return f"{STATIC_PATH}/{name}?v={self._digests[name]}"

    def find(self, path: str) -> _Asset | None:
        """The file at a path."""
        return self._assets.get(path)

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)
        raise HTTPException(HTTPStatus.NOT_FOUND)


class AssetsFirst:
    """ASGI app in front of the pages: answers for the files. A file costs no more than its bytes,
    its line in the log and its part in the figures.

    :param headers: those of every answer.
    """

    def __init__(
        self,
        pages: ASGIApp,
        assets: Assets,
        *,
        headers: Sequence[tuple[bytes, bytes]],
        metrics: Metrics,
        entrance: Entrance,
        version: str,
        instance: str,
    ) -> None:
        self._pages = pages
        self._assets = assets
        self._headers = [header for header in headers if header[0] != b"cache-control"]
        self._metrics = metrics
        self._entrance = entrance
        self._version = version
        self._instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asset = None
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            asset = self._assets.find(scope["path"])
        if asset is None:
            await self._pages(scope, receive, send)
            return
        started = time.perf_counter()
        asked = dict(scope["headers"])
        chosen = asset.plain
        if asset.compressed is not None and b"gzip" in asked.get(b"accept-encoding", b""):
            chosen = asset.compressed
        is_exact = scope["query_string"] == asset.exact_query
        is_known = chosen.etag in asked.get(b"if-none-match", b"")
        status = HTTPStatus.NOT_MODIFIED if is_known else HTTPStatus.OK
        headers: Headers = [
            (b"cache-control", _FOR_GOOD if is_exact else _FOR_NOW),
            *(chosen.cached if is_known else chosen.whole),
            *self._headers,
        ]
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if is_known else chosen.body})
        self._observe(scope, str(status.value), time.perf_counter() - started)

    def _observe(self, scope: Scope, status: str, seconds: float) -> None:
        self._metrics.request("http", _OPERATION, status, seconds, "")
        milliseconds = 1000 * seconds
        self._entrance.passed(
            Call(FRONTEND, _OPERATION, self._version, self._instance, milliseconds, status)
        )
        log.info(
            "http.served",
            method=scope["method"],
            path=scope["path"],
            status=int(status),
            ms=round(milliseconds, 1),
        )


def _asset(name: str, content: bytes, digest: str) -> _Asset:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    squeezed = gzip.compress(content, mtime=0)
    return _Asset(
        exact_query=f"v={digest}".encode(),
        plain=_representation(content, digest, {"content-type": kind}),
        compressed=_representation(
            squeezed, f"{digest}-gzip", {"content-type": kind, "content-encoding": "gzip"}
        )
        if len(squeezed) < 0.9 * len(content)
        else None,
    )


def _representation(body: bytes, tag: str, content: Mapping[str, str]) -> _Representation:
    etag = f'"{tag}"'.encode()
    cached = [(b"vary", b"accept-encoding"), (b"etag", etag)]
    described = {**content, "content-length": str(len(body))}
    return _Representation(
        body,
        etag,
        cached=cached,
        whole=[
            *((name.encode(), value.encode()) for name, value in described.items()),
            *cached,
        ],
    )
