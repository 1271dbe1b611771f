"""Workers that report well and can't be used: what answers at their addresses is another, or can't prove who it is."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from kvstore.layout import Identity
from scheduler.vocabulary import Role, WorkerId
from services.gateway import cluster as gateway_cluster
from services.gateway.cluster import ClusterClient
from services.gateway.patience import Patience
from services.gateway.text import Text
from services.status.tables import _headline
from services.wire.channel import serve
from services.wire.pb import worker_pb2, worker_pb2_grpc
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import FakeWorker, alphabet, letter
from tests.services.wire.certificates import Authority

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 5, "temperature": 0}
Handlers = dict[str, "grpc.RpcMethodHandler[Any, Any]"]
STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


class Stranger:
    """A foreign gRPC server: ends every call with a status, or answers with bytes."""

    def __init__(self, answer: grpc.StatusCode | bytes) -> None:
        self.answer = answer
        self.calls = 0

    def add(self, server: grpc.aio.Server) -> None:
        for name in ("Prefill", "Decode"):
            make = grpc.unary_stream_rpc_method_handler if name == "Prefill" else grpc.stream_stream_rpc_method_handler
            handlers: Handlers = {name: make(self._say)}
            service = "moonpool.v1.Worker"
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])

    async def _say(self, request: object, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        self.calls += 1
        if isinstance(self.answer, grpc.StatusCode):
            await context.abort(self.answer, "go away")
        await context.write(self.answer)
        await asyncio.Event().wait()


@asynccontextmanager
async def instead(worker: FakeWorker, add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[None]:
    """Something else at this worker's address."""
    assert worker.server is not None
    await worker.server.stop(None)
    server = await serve(worker.address, add)
    try:
        yield
    finally:
        await server.stop(None)


async def ask(gateway: Gateway) -> tuple[int, str]:
    answer = await gateway.http.post("/v1/completions", json=ASK)
    document = answer.json()
    text = document["choices"][0]["text"] if answer.status_code == 200 else document["error"]["message"]
    return answer.status_code, text


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == words]


FINE = (200, alphabet(5))
GARBAGE = worker_pb2.DecodeEvent(tokens=worker_pb2.Tokens(ids=[1, 2, 3])).SerializeToString()


SAID: list[grpc.StatusCode | bytes] = [*STATUSES, b"\xff\xff garbage", GARBAGE]


@pytest.mark.parametrize(
    ("role", "answer"),
    [
        *((Role.DECODE, answer) for answer in SAID),
        *((Role.PREFILL, answer) for answer in [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, GARBAGE]),
    ],
)
async def test_whatever_another_server_says_no_request_fails_and_a_good_worker_does_it(
    gateway: Gateway, cluster: FakeCluster, answer: grpc.StatusCode | bytes, role: Role
) -> None:
    cluster.conductor.hand_over = role is Role.PREFILL
    bad = cluster.prefill if role is Role.PREFILL else cluster.decode
    cluster.conductor.workers = [bad, cluster.other]
    stranger = Stranger(answer)
    async with instead(bad, stranger.add):
        assert [await ask(gateway) for _ in range(5)] == [FINE] * 5
    assert stranger.calls >= 1


@pytest.mark.parametrize("answer", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED, GARBAGE])
async def test_a_prompt_that_was_handed_over_to_another_server_goes_on_at_a_good_worker(
    gateway: Gateway, cluster: FakeCluster, answer: grpc.StatusCode | bytes
) -> None:
    """Its client has the first token by then, so it is resumed."""
    cluster.conductor.hand_over = True
    cluster.conductor.workers = [cluster.prefill, cluster.decode, cluster.other]
    cluster.prefill.token = lambda position: letter(len(cluster.prefill.prefills[-1].output))
    async with instead(cluster.decode, Stranger(answer).add):
        assert [await ask(gateway) for _ in range(3)] == [FINE] * 3
    await cluster.at_rest()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE])
async def test_it_is_said_once_shown_in_the_status_and_left_out_of_the_next_asks(
    gateway: Gateway, cluster: FakeCluster, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    stranger = Stranger(code)
    async with instead(cluster.decode, stranger.add):
        assert [await ask(gateway) for _ in range(20)] == [FINE] * 20
    assert stranger.calls <= 3, "once at first, and now and then to see whether it has changed"
    assert len(lines(caplog, "a worker can't be used")) == 1
    document = (await gateway.http.get("/status")).json()
    assert [each["id"] for each in document["unusable"]] == ["decode-0"]
    assert "gateway-0 can't use decode-0" in _headline(document)
    assert len([each for each in cluster.conductor.asks if "decode-0" in each.excluded]) >= 17


async def test_a_worker_that_can_be_used_again_is(
    gateway: Gateway, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cluster.conductor.workers = [cluster.decode]
    async with AsyncExitStack() as stack:
        async with instead(cluster.decode, Stranger(grpc.StatusCode.INTERNAL).add):
            status, message = await ask(gateway)
            assert (status, message.startswith("No worker that decodes lives; the last to fail was decode-0")) == (
                503,
                True,
            )
        add = worker_pb2_grpc.add_WorkerServicer_to_server
        await cluster.serve(stack, cluster.decode.address, add, cluster.decode)
        async with running_with_patience(cluster, gateway) as patient:
            assert await ask(patient) == FINE
    assert gateway.front.cluster.unusable() == []
    assert len(lines(caplog, "a worker can be used again")) == 1


@asynccontextmanager
async def running_with_patience(cluster: FakeCluster, gateway: Gateway) -> AsyncIterator[Gateway]:
    """The same gateway, that asks again for a while."""
    object.__setattr__(gateway.front.settings, "patience", Patience(waiting_s=10.0))
    yield gateway


@pytest.mark.parametrize("what", ["another worker", "another deployment", "no greeting"])
async def test_a_worker_that_is_not_the_one_that_was_meant_gives_no_token(
    gateway: Gateway, cluster: FakeCluster, what: str
) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    wrong = FakeWorker(cluster.decode.name, cluster.decode.address, Role.DECODE)
    wrong.token = lambda position: ord("!")
    if what == "another worker":
        wrong.name = WorkerId("decode-7")
    elif what == "another deployment":
        wrong.identity = Identity("toy", "other weights", "none", 16, "layout")
    else:
        wrong.shy = True
    async with instead(cluster.decode, lambda it: worker_pb2_grpc.add_WorkerServicer_to_server(wrong, it)):
        assert [await ask(gateway) for _ in range(3)] == [FINE] * 3
    ((known, _),) = gateway.front.cluster.unusable()
    expected = {
        "another worker": "what answers at its address is decode-7",
        "another deployment": "serves another deployment",
        "no greeting": "no worker of Moonpool's",
    }
    assert expected[what] in known.because


class Talker(asyncio.Protocol):
    """Takes a connection, and says one thing to whatever it hears."""

    def __init__(self, says: bytes, connections: list[asyncio.BaseTransport]) -> None:
        self._says, self._connections = says, connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.append(transport)

    def data_received(self, data: bytes) -> None:
        transport = self._connections[-1]
        if self._says and isinstance(transport, asyncio.Transport):
            transport.write(self._says)
            transport.close()


@asynccontextmanager
async def talking(says: bytes) -> AsyncIterator[str]:
    """The address of a port where this is said."""
    connections: list[asyncio.BaseTransport] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Talker(says, connections), "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in connections:
            if isinstance(connection, asyncio.WriteTransport):
                connection.abort()


HTTP1 = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("says", [b"", HTTP1, b"\0" * 64], ids=["nothing", "HTTP/1", "zeros"])
@pytest.mark.parametrize("role", [Role.PREFILL, Role.DECODE])
async def test_a_port_that_speaks_no_grpc_or_nothing_at_all_is_left_for_a_good_worker(
    gateway: Gateway, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, says: bytes, role: Role
) -> None:
    monkeypatch.setattr(gateway_cluster, "GREETING_S", 0.3)
    cluster.conductor.hand_over = role is Role.PREFILL
    bad = cluster.prefill if role is Role.PREFILL else cluster.decode
    cluster.conductor.workers = [bad, cluster.other]
    async with talking(says) as bad.address:
        assert [await ask(gateway) for _ in range(3)] == [FINE] * 3
        assert [known.worker for known, _ in gateway.front.cluster.unusable()] == [bad.name]


async def test_a_worker_that_takes_a_call_and_hangs_is_left_for_a_good_one(
    gateway: Gateway, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_cluster, "GREETING_S", 0.2)
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.shy = True
    cluster.decode.gate.clear()
    assert [await ask(gateway) for _ in range(3)] == [FINE] * 3
    ((known, _),) = gateway.front.cluster.unusable()
    assert known.because == "it has not answered a call within 0.2 s"


@pytest.fixture
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.mark.parametrize("fault", ["wrong name", "expired", "another authority", "no TLS"])
async def test_a_worker_whose_certificate_is_not_good_fails_no_request(
    cluster: FakeCluster, text: Text, ours: Authority, tmp_path_factory: pytest.TempPathFactory, fault: str
) -> None:
    theirs = Authority(tmp_path_factory.mktemp("theirs"), "theirs")
    certificates = {
        "wrong name": ours.tls("w", "elsewhere.example"),
        "expired": ours.tls("w", "127.0.0.1", expired=True),
        "another authority": theirs.tls("w", "127.0.0.1", believes=ours),
    }
    stranger = certificates.get(fault)
    words = {
        "wrong name": "does not have the name",
        "expired": "has expired",
        "another authority": "not of the authority",
        "no TLS": "does not speak TLS",
    }
    bad = FakeWorker("decode-9", "", Role.DECODE)
    cluster.conductor.workers = [bad, cluster.other]
    server = grpc.aio.server()
    worker_pb2_grpc.add_WorkerServicer_to_server(bad, server)
    if stranger is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", stranger.server_credentials())
    bad.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        async with running(cluster, text) as gateway:
            await gateway.front.cluster.close()
            gateway.front.cluster = ClusterClient([cluster.conductor_target], ours.tls("gateway"))
            assert [await ask(gateway) for _ in range(10)] == [FINE] * 10
            ((known, _),) = gateway.front.cluster.unusable()
            assert words[fault] in known.because
    finally:
        await server.stop(None)
    assert bad.decodes == []


async def test_when_no_worker_can_be_used_it_is_503_with_the_reason_and_when_to_come_back(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.workers = [cluster.decode]
    async with instead(cluster.decode, Stranger(grpc.StatusCode.PERMISSION_DENIED).add):
        answer = await gateway.http.post("/v1/completions", json=ASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["error"]["message"].endswith("the last to fail was decode-0: go away.")


@pytest.mark.parametrize(
    "answer", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, b"", b"\xff\xff garbage"]
)
async def test_a_conductor_that_cannot_be_used_is_passed_over(
    cluster: FakeCluster,
    text: Text,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    answer: grpc.StatusCode | bytes,
) -> None:
    target = f"unix:{tmp_path_factory.mktemp('c')}/c.sock"

    async def say(request: bytes, context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "go away")
        assert isinstance(answer, bytes)
        return answer

    methods: Handlers = dict.fromkeys(("Place", "Describe", "ReportOutcome"), grpc.unary_unary_rpc_method_handler(say))
    handler = grpc.method_handlers_generic_handler("moonpool.v1.Conductor", methods)
    server = await serve(target, lambda it: it.add_generic_rpc_handlers([handler]))
    try:
        async with running(cluster, text) as gateway:
            await gateway.front.cluster.close()
            gateway.front.cluster = ClusterClient([target, cluster.conductor_target])
            assert [await ask(gateway) for _ in range(3)] == [FINE] * 3
            assert len(lines(caplog, "a conductor can't be used")) <= 3, "one for each question and reason"
            await ask(gateway)
            said = len(lines(caplog, "a conductor can't be used"))
            assert [await ask(gateway) for _ in range(3)] == [FINE] * 3
            assert len(lines(caplog, "a conductor can't be used")) == said >= 1
    finally:
        await server.stop(None)
