"""httpx through the gateway: large bodies stream up and down, byte for byte."""

import os
import zlib

import httpx

PROXY, ORIGIN = os.environ["PROXY"], os.environ["ORIGIN"]
LENGTH = 20_000_000
# httpx sends all of a request before it reads, so somebody must hold an answer that comes meanwhile. Directly, that
# is the system at both ends: 8 MB get through, and 12 MB do not.
ECHOED = 8_000_000


def pieces():
    """A body whose length nobody is told, so that it goes out chunked."""
    for n in range(LENGTH // 50_000):
        yield bytes([n % 251]) * 50_000


crc = 0
for piece in pieces():
    crc = zlib.crc32(piece, crc)

with httpx.Client(proxy=PROXY) as client:
    summed = client.post(f"{ORIGIN}/sum", content=pieces())
    assert summed.text == f"{LENGTH} {crc:08x}", summed.text

    # The origin sends back what it gets: the last byte of the answer needs the last of the request.
    received = 0
    with client.stream("POST", f"{ORIGIN}/echo", content=b"x" * ECHOED) as echo:
        for piece in echo.iter_bytes():
            assert piece.strip(b"x") == b""
            received += len(piece)
    assert received == ECHOED, received

    with client.stream("GET", f"{ORIGIN}/bytes/{LENGTH}") as download:
        assert download.headers["content-length"] == str(LENGTH)
        assert sum(len(piece) for piece in download.iter_bytes()) == LENGTH

    missing = client.get(f"{ORIGIN}/missing")
    assert missing.status_code == 404 and missing.text == "no such page\n", missing

with httpx.Client(proxy=PROXY.replace("office:", "office:wrong")) as stranger:
    assert stranger.get(f"{ORIGIN}/hello").status_code == 407
