"""gRPC as requests of the gateway, not as bytes in a tunnel: the connector itself speaks HTTP/2 with the
origin. Unary, streams of either side and of both, a failure."""

import base64
import os
import queue
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import grpc

MESSAGES = 200


def refuse(_request, context):
    context.set_trailing_metadata([("reason", "on purpose")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this")


server = grpc.server(ThreadPoolExecutor(4))
methods = {
    "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
    "Count": grpc.unary_stream_rpc_method_handler(
        lambda request, _: (b"%d" % n for n in range(int(request)))
    ),
    "Sum": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"%d" % sum(map(int, requests))),
    "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
}
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Origin", methods)])
port = server.add_insecure_port(f"{os.environ['HOST']}:0")
server.start()

proxy = urlsplit(os.environ["PROXY"])
credentials = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
call = {"metadata": [("proxy-authorization", f"Basic {credentials}")], "timeout": 60}
options = [
    ("grpc.default_authority", f"{os.environ['HOST']}:{port}"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
]

with grpc.insecure_channel(f"{proxy.hostname}:{proxy.port}", options=options) as channel:
    large = os.urandom(3_000_000)
    assert channel.unary_unary("/test.Origin/Echo")(large, **call) == large

    counted = list(channel.unary_stream("/test.Origin/Count")(b"%d" % MESSAGES, **call))
    assert counted == [b"%d" % n for n in range(MESSAGES)]
    numbers = (b"%d" % n for n in range(MESSAGES))
    total = channel.stream_unary("/test.Origin/Sum")(numbers, **call)
    assert int(total) == sum(range(MESSAGES))

    # Each message leaves only when the one before has come back.
    outbox = queue.Queue()
    chat = channel.stream_stream("/test.Origin/Chat")(iter(outbox.get, None), **call)
    for n in range(MESSAGES):
        outbox.put(b"%d" % n)
        assert next(chat) == b"%d" % n
    outbox.put(None)
    assert list(chat) == []

    try:
        channel.unary_unary("/test.Origin/Refuse")(b"", **call)
        raise SystemExit("it was to fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not like this"
        assert ("reason", "on purpose") in error.trailing_metadata()
server.stop(None)
