"""Takes connections on many ports and in both families: ``python -c LISTENER 3000 9000 …``."""

import asyncio
import sys


async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def main(ports: list[int]) -> None:
    servers = [await asyncio.start_server(greet, None, port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main([int(port) for port in sys.argv[1:]]))
