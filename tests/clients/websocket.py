"""WebSockets through the gateway: by CONNECT, as the websockets library does, and as an upgrade of a
plain proxy request, as simpler clients do."""

import asyncio
import os
from base64 import b64encode
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

PROXY, HOST = os.environ["PROXY"], os.environ["HOST"]
MESSAGES = 1_000


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def by_connect(url):
    async with connect(url, proxy=PROXY, max_size=None) as connection:
        for n in range(MESSAGES):
            message = f"{n} " * (n % 500) if n % 2 else bytes([n % 256]) * (n % 500)
            await connection.send(message)
            assert await connection.recv() == message, n
        large = os.urandom(5_000_000)
        await connection.send(large)
        assert await connection.recv() == large


async def by_upgrade(url):
    proxy, authority = urlsplit(PROXY), urlsplit(url).netloc
    reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port)
    protocol = ClientProtocol(parse_uri(url))
    request = protocol.connect()
    # What makes it a request to a proxy: the whole URL, and the credentials.
    credentials = b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    request.headers["Proxy-Authorization"] = f"Basic {credentials}"
    request.path = f"http://{authority}/"
    protocol.send_request(request)
    received = []

    async def exchange(count):
        for data in protocol.data_to_send():
            writer.write(data)
        while len(received) < count:
            data = await reader.read(65536)
            assert data, "the connection ended"
            protocol.receive_data(data)
            received.extend(protocol.events_received())

    await exchange(1)
    assert protocol.handshake_exc is None, protocol.handshake_exc
    for n in range(MESSAGES):
        protocol.send_text(b"%d" % n)
        await exchange(n + 2)
    frames = received[1:]
    assert [frame.data for frame in frames] == [b"%d" % n for n in range(MESSAGES)]
    assert all(frame.opcode is Opcode.TEXT for frame in frames)
    writer.close()


async def main():
    async with serve(echo, HOST, 0, max_size=None) as server:
        url = f"ws://{HOST}:{server.sockets[0].getsockname()[1]}/"
        await by_connect(url)
        await by_upgrade(url)


asyncio.run(main())
