"""httpx through a gateway that speaks HTTPS with a certificate of a private authority."""

import os
import ssl

import httpx

PROXY, ORIGIN = os.environ["PROXY"], os.environ["ORIGIN"]
SECURE_ORIGIN = os.environ["SECURE_ORIGIN"]

proxy = httpx.Proxy(PROXY, ssl_context=ssl.create_default_context(cafile=os.environ["PROXY_CA"]))
origin = ssl.create_default_context(cafile=os.environ["ORIGIN_CA"])
with httpx.Client(proxy=proxy, verify=origin) as client:
    assert client.get(f"{ORIGIN}/hello").text == os.environ["HELLO"]
    assert client.get(f"{SECURE_ORIGIN}/hello").text == os.environ["HELLO"]

try:
    with httpx.Client(proxy=PROXY) as client:
        client.get(f"{ORIGIN}/hello")
except httpx.ConnectError as error:
    assert "CERTIFICATE_VERIFY_FAILED" in str(error), error
else:
    raise AssertionError("a certificate of an unknown authority was trusted")
