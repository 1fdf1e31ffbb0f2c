"""gRPC through the gateway, by CONNECT, as http_proxy asks for: unary, bidirectional, a failure."""

import os
import queue
from concurrent.futures import ThreadPoolExecutor

MESSAGES = 200
os.environ["http_proxy"] = os.environ["PROXY"]
import grpc  # noqa: E402  It reads the environment.


def refuse(_request, context):
    context.set_trailing_metadata([("reason", "on purpose")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this")


server = grpc.server(ThreadPoolExecutor(4))
methods = {
    "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
    "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
}
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Origin", methods)])
port = server.add_insecure_port(f"{os.environ['HOST']}:0")
server.start()

with grpc.insecure_channel(f"{os.environ['HOST']}:{port}") as channel:
    large = os.urandom(3_000_000)
    assert channel.unary_unary("/test.Origin/Echo")(large, timeout=60) == large

    # Each message leaves only when the one before has come back.
    outbox = queue.Queue()
    chat = channel.stream_stream("/test.Origin/Chat")(iter(outbox.get, None), timeout=60)
    for n in range(MESSAGES):
        outbox.put(b"%d" % n)
        assert next(chat) == b"%d" % n
    outbox.put(None)
    assert list(chat) == []

    try:
        channel.unary_unary("/test.Origin/Refuse")(b"", timeout=60)
        raise SystemExit("it was to fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not like this"
        assert ("reason", "on purpose") in error.trailing_metadata()
server.stop(None)
