"""Python's http.server: prints each request that it understands as a line of JSON."""

import base64, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = b""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        elif length := self.headers.get("Content-Length"):
            body = self.rfile.read(int(length))
        seen = {"target": self.path, "method": self.command, "body": base64.b64encode(body).decode()}
        # One write, since threads share it.
        sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer((sys.argv[1], 0), Handler)
print(f"PORT {server.server_address[1]}", flush=True)
server.serve_forever()
