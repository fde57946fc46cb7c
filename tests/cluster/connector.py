"""Tries connections, in a pod: ``python -c CONNECTOR < [[address, port], …]`` prints which pass."""

import asyncio
import json
import sys

_TIMEOUT_SECONDS = 2.0


async def passes(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:  # refused, or, where forbidden packets are dropped, not answered
        return False
    writer.close()
    return True


async def main() -> None:
    wanted: list[tuple[str, int]] = json.load(sys.stdin)
    print(json.dumps(await asyncio.gather(*(passes(*each) for each in wanted))))


asyncio.run(main())
