"""gunicorn with its own defaults, but threads: prints each request that it understands as a line of JSON."""

import base64, json, sys

from gunicorn.app.base import BaseApplication


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {
        "target": environ["RAW_URI"],
        "method": environ["REQUEST_METHOD"],
        "body": base64.b64encode(body).decode(),
    }
    # One write, since threads share it.
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


class Application(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", f"{sys.argv[1]}:0")
        self.cfg.set("threads", 16)
        self.cfg.set("loglevel", "critical")
        self.cfg.set(
            "when_ready",
            lambda server: print(f"PORT {server.LISTENERS[0].sock.getsockname()[1]}", flush=True),
        )

    def load(self):
        return app


Application().run()
