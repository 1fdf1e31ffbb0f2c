"""h11, which uvicorn and hypercorn build on: prints each request that it understands as a line of JSON."""

import base64, json, socket, sys, threading

import h11


def serve(client):
    connection = h11.Connection(h11.SERVER)

    def event():
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(client.recv(65536))
        return event

    try:
        while True:
            request, body = None, b""
            while not isinstance(got := event(), h11.EndOfMessage):
                if isinstance(got, h11.ConnectionClosed):
                    return
                if isinstance(got, h11.Request):
                    request = got
                elif isinstance(got, h11.Data):
                    body += got.data
            seen = {
                "target": request.target.decode("latin-1"),
                "method": request.method.decode("latin-1"),
                "body": base64.b64encode(body).decode(),
            }
            # One write, since threads share it.
            sys.stdout.write(json.dumps(seen) + "\n")
            sys.stdout.flush()
            answer = h11.Response(status_code=200, headers=[("Content-Length", "2")])
            for part in answer, h11.Data(data=b"ok"), h11.EndOfMessage():
                client.sendall(connection.send(part))
            connection.start_next_cycle()
    except (h11.ProtocolError, OSError, TypeError):
        pass
    finally:
        client.close()


listener = socket.create_server((sys.argv[1], 0))
print(f"PORT {listener.getsockname()[1]}", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
