#!/usr/bin/env bash
# grpc.aio answers None, with status OK, where an answer can't be decoded; grpc raises INTERNAL.
#
# A client that calls a server of another kind, or of a newer version whose message it can't parse, gets
# StatusCode.INTERNAL ("Exception deserializing response!") from the blocking API of the same package. With
# the asyncio API the awaited call gives None and its code() is OK, so callers that catch AioRpcError see a success
# and fail later, at the first attribute of None.
#
# Packages: grpcio==1.85.1
# Seen on 2026-11-30 with Python 3.11:
#   grpc: INTERNAL
#   grpc.aio: None OK
# Exits non-zero where that changes.
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet grpcio==1.85.1
cat > call.py <<'PY'
import asyncio, logging
from concurrent import futures
import grpc

logging.disable(logging.CRITICAL)


def parse(data: bytes) -> str:
    return data.decode("ascii")  # raises UnicodeDecodeError for the answer below


def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b"\xff\xff"


server = grpc.server(futures.ThreadPoolExecutor(2))
handler = grpc.method_handlers_generic_handler("t.T", {"Call": grpc.unary_unary_rpc_method_handler(answer)})
server.add_generic_rpc_handlers((handler,))
port = server.add_insecure_port("127.0.0.1:0")
server.start()


def blocking() -> str:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            return repr(channel.unary_unary("/t.T/Call", response_deserializer=parse)(b"", timeout=10))
        except grpc.RpcError as error:
            return error.code().name


async def asynchronous() -> tuple[str, str]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/t.T/Call", response_deserializer=parse)(b"", timeout=10)
        try:
            said = repr(await call)
        except grpc.aio.AioRpcError as error:
            said = error.code().name
        return said, (await call.code()).name


print("grpc:", blocking())
print("grpc.aio:", *asyncio.run(asynchronous()))
server.stop(None)
PY
venv/bin/python call.py | tee seen
diff seen - <<'SEEN'
grpc: INTERNAL
grpc.aio: None OK
SEEN
