"""Sends requests from inside a pod, and tells what came of each: ``python -c PROBE < requests``.

Needs nothing but what the shop's image holds. Prints a JSON list of [outcome, detail, who]:

    "answered"  by the service itself, whatever it said; the detail is the status
    "denied"    by the mesh: 403 (HTTP) or PERMISSION_DENIED (gRPC), and no service has answered
    "refused"   401 by the mesh: the token is not good
    "failed"    no answer: connection refused or reset, or no route to it

`who` is the record of the service that has answered (services/common/call_record.py), or empty.

A request has a `method` and a `url`, or a `target` and an `rpc`, or the `database` that is greeted.
"""

import asyncio
import json
import sys
from typing import Any

import aiohttp
import grpc.aio
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

_TIMEOUT_SECONDS = 10.0
_AT_ONCE = 8
_RECORD = "x-served-by"
# With no service's record. UNKNOWN is what gRPC's client says of a stream without a status.
_NO_ANSWER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
}


async def http(session: aiohttp.ClientSession, request: dict[str, Any]) -> list[str]:
    try:
        async with session.request(
            request["method"],
            request["url"],
            headers=request.get("headers"),
            json={} if request["method"] in {"POST", "PATCH", "PUT"} else None,
            allow_redirects=False,
        ) as answer:
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return ["failed", repr(error), ""]
    who = answer.headers.get(_RECORD, "")
    if answer.status == 403 and not who:
        return ["denied", f"403 {text}", ""]
    if answer.status == 401 and text.startswith("Jwt"):
        return ["refused", text, ""]
    if answer.status in {502, 503, 504} and not who:
        return ["failed", f"{answer.status} {text}", ""]
    return ["answered", str(answer.status), who]


async def rpc(request: dict[str, Any]) -> list[str]:
    async with grpc.aio.insecure_channel(request["target"]) as channel:
        method: Any = channel.unary_unary(request["rpc"])  # pyright: ignore[reportUnknownVariableType]
        call = method(
            b"", timeout=_TIMEOUT_SECONDS, metadata=tuple(request.get("headers", {}).items())
        )
        status, details = await call.code(), await call.details()
        who = next((text for name, text in await call.trailing_metadata() if name == _RECORD), "")
    if status is grpc.StatusCode.PERMISSION_DENIED and not who:
        return ["denied", f"{status.name} {details}", ""]
    if status in _NO_ANSWER and not who:
        return ["failed", details, ""]
    return ["answered", status.name, who]


async def greet(database: str) -> list[str]:
    """Says "hello", which MongoDB answers to whoever reaches it."""
    url = f"mongodb://{database}/?directConnection=true"
    patience_ms = int(1000 * _TIMEOUT_SECONDS)
    async with AsyncMongoClient[dict[str, Any]](
        url, serverSelectionTimeoutMS=patience_ms
    ) as client:
        try:
            await client.admin.command("hello")
        except PyMongoError as error:
            return ["failed", repr(error), ""]
    return ["answered", "", ""]


async def main() -> None:
    requests: list[dict[str, Any]] = json.load(sys.stdin)
    limit = asyncio.Semaphore(_AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def send(request: dict[str, Any]) -> list[str]:
            async with limit:
                if "database" in request:
                    return await greet(request["database"])
                return await (rpc(request) if "rpc" in request else http(session, request))

        print(json.dumps(await asyncio.gather(*(send(request) for request in requests))))


asyncio.run(main())
