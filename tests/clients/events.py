"""Server-sent events through the gateway, each as it happens.

The origin sends an event only after the client has told, by another request, that it has the one
before. Anything on the way that holds an event back would wait for ever.
"""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

EVENTS = 200
seen = threading.Semaphore(0)


class Origin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for n in range(EVENTS):
            self.wfile.write(f"data: {n}\n\n".encode())
            seen.acquire()

    def do_POST(self):
        seen.release()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer((os.environ["HOST"], 0), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://{os.environ['HOST']}:{server.server_port}"

events = 0
with httpx.Client(proxy=os.environ["PROXY"], timeout=60) as client:
    with client.stream("GET", f"{url}/events") as stream:
        for line in stream.iter_lines():
            if line:
                assert line == f"data: {events}", line
                events += 1
                assert client.post(f"{url}/seen").status_code == 204
assert events == EVENTS, events
