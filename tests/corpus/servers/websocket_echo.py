"""Sends back every message: the origin of the WebSocket cases."""

import asyncio, logging, sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    # What it is sent is often wrong; it says so to the client.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    async with serve(echo, sys.argv[1], 0, max_size=None, ping_interval=None) as server:
        print(f"PORT {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main())
