"""Who is let in: over gRPC and over plain sockets alike, only whoever has a certificate of our authority."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from services.runtime.flags import load
from services.runtime.process import Refusal
from services.runtime.settings import ProcessSettings
from services.wire.address import is_local
from services.wire.channel import open_channel, serve
from services.wire.errors import PeerUnavailable, rpc_errors
from services.wire.pb.common_pb2 import Empty
from services.wire.tls import Tls, refuse_exposed, tls_of
from tests.e2e.cluster import free_port
from tests.services.wire.certificates import Authority


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture
async def server(ours: Authority) -> AsyncIterator[str]:
    """A gRPC server of ours on TCP; its target."""
    async with serving(ours.tls("server")) as target:
        yield target


class serving:  # noqa: N801 - reads as a word in ``async with``
    """One method that answers, at a free port."""

    def __init__(self, tls: Tls | None) -> None:
        self._tls = tls

    async def __aenter__(self) -> str:
        target = f"127.0.0.1:{free_port()}"
        self._server = await serve(target, _add, self._tls)
        return target

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


def _add(server: grpc.aio.Server) -> None:
    async def answer(request: Empty, context: grpc.aio.ServicerContext[Empty, Empty]) -> Empty:
        return Empty()

    handler = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", {"Call": handler})])


async def call(target: str, tls: Tls | None) -> None:
    async with open_channel(target, tls) as channel:
        await _call(channel)


async def _call(channel: grpc.aio.Channel) -> None:
    method = channel.unary_unary(
        "/test.Test/Call", request_serializer=Empty.SerializeToString, response_deserializer=Empty.FromString
    )
    with rpc_errors():
        await method(Empty(), timeout=10.0)


async def test_a_client_of_our_authority_is_served(server: str, ours: Authority) -> None:
    await call(server, ours.tls("client"))


async def test_a_client_without_tls_is_not_served(server: str) -> None:
    with pytest.raises(PeerUnavailable, match="as one does that wants TLS"):
        await call(server, None)


async def test_a_server_without_tls_is_not_talked_to(ours: Authority) -> None:
    async with serving(None) as target:
        with pytest.raises(PeerUnavailable, match="does not speak TLS"):
            await call(target, ours.tls("client"))


async def test_a_client_without_a_certificate_is_not_served(server: str, ours: Authority) -> None:
    credentials = grpc.ssl_channel_credentials(ours.ca.read_bytes())
    async with grpc.aio.secure_channel(server, credentials) as channel:
        with pytest.raises(PeerUnavailable):
            await _call(channel)


async def test_a_client_of_another_authority_is_not_served(server: str, ours: Authority, theirs: Authority) -> None:
    with pytest.raises(PeerUnavailable):
        await call(server, theirs.tls("stranger", believes=ours))


async def test_a_client_whose_certificate_has_expired_is_not_served(server: str, ours: Authority) -> None:
    with pytest.raises(PeerUnavailable):
        await call(server, ours.tls("late", expired=True))


async def test_a_client_does_not_talk_to_a_server_of_another_authority(server: str, theirs: Authority) -> None:
    with pytest.raises(PeerUnavailable, match="not of the authority in --tls-ca"):
        await call(server, theirs.tls("misled"))


@pytest.mark.parametrize(
    ("hosts", "expired", "because"),
    [(("elsewhere.example",), False, "does not have the name"), (("127.0.0.1",), True, "has expired")],
    ids=["wrong name", "expired"],
)
async def test_a_client_does_not_talk_to_a_server_that_cannot_prove_who_it_is(
    ours: Authority, hosts: tuple[str, ...], expired: bool, because: str
) -> None:
    async with serving(ours.tls("impostor", *hosts, expired=expired)) as target:
        with pytest.raises(PeerUnavailable, match=because):
            await call(target, ours.tls("client"))


async def test_on_a_unix_socket_nobody_needs_a_certificate(tmp_path: Path, ours: Authority) -> None:
    target = f"unix:{tmp_path}/peer.sock"
    server = await serve(target, _add, ours.tls("server"))
    try:
        await call(target, ours.tls("client"))
        await call(target, None)
    finally:
        await server.stop(None)


async def test_plain_sockets_let_in_the_same_clients(ours: Authority, theirs: Authority) -> None:
    server = ours.tls("server")
    assert await asyncio.to_thread(talk, server, ours.tls("client").ssl_client()) == b"hello"
    for turned_away in (
        bare(ours),
        theirs.tls("stranger", believes=ours).ssl_client(),
        theirs.tls("misled").ssl_client(),
        ours.tls("late", expired=True).ssl_client(),
    ):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(talk, server, turned_away)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        await asyncio.to_thread(talk, ours.tls("impostor", "elsewhere.example"), ours.tls("client").ssl_client())


def bare(authority: Authority) -> ssl.SSLContext:
    """A client that believes us and shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.ca)
    return context


def talk(server: Tls, client: ssl.SSLContext) -> bytes:
    """What a client reads from a server that greets whoever it accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeter = threading.Thread(target=_greet, args=(listener, server.ssl_server()))
        greeter.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as raw,
                client.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
            ):
                return secured.recv(16)
        finally:
            greeter.join()


def _greet(listener: socket.socket, context: ssl.SSLContext) -> None:
    raw, _ = listener.accept()
    try:
        with raw, context.wrap_socket(raw, server_side=True) as secured:
            secured.sendall(b"hello")
    except (ssl.SSLError, ConnectionError):
        pass


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("unix:/run/x.sock", True),
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("worker-3.example:1", False),
    ],
)
def test_beyond_loopback_nobody_listens_without_tls(listen: str, local: bool, ours: Authority) -> None:
    assert is_local(listen) is local
    refuse_exposed(listen, ours.tls("any"), insecure_network=False)
    refuse_exposed(listen, None, insecure_network=True)
    if local:
        refuse_exposed(listen, None, insecure_network=False)
    else:
        with pytest.raises(Refusal, match="--tls-cert, --tls-key and --tls-ca, or --insecure-network"):
            refuse_exposed(listen, None, insecure_network=False)


async def test_a_server_that_strangers_could_call_is_not_started() -> None:
    with pytest.raises(Refusal, match=r"listening at 0\.0\.0\.0:0"):
        await serve("0.0.0.0:0", _add)


def settings(*argv: str) -> ProcessSettings:
    return load(ProcessSettings, argv, prog="moonpool any")


def test_files_that_are_no_certificates_are_refused_in_a_sentence(tmp_path: Path, ours: Authority) -> None:
    cert, key = ours.files("one")
    _, other_key = ours.files("two")
    junk = tmp_path / "junk.pem"
    junk.write_text("not PEM")
    for words, sentence in [
        ((cert, tmp_path / "none.pem", ours.ca), "none.pem, given for TLS, can't be read: No such file"),
        ((cert, other_key, ours.ca), "are not a certificate and its plain key: KEY_VALUES_MISMATCH"),
        ((junk, key, ours.ca), "are not a certificate and its plain key"),
        ((cert, key, junk), "has no certificate in PEM"),
    ]:
        flags = [f"--tls-{name}={path}" for name, path in zip(("cert", "key", "ca"), words, strict=True)]
        with pytest.raises(Refusal, match=sentence):
            tls_of(settings(*flags))


def test_tls_is_given_whole_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert tls_of(settings()) is None
    with pytest.raises(SystemExit):
        settings("--tls-cert=a.pem")
    said = capsys.readouterr().err
    assert "moonpool any: TLS needs --tls-cert, --tls-key and --tls-ca; missing: --tls-key, --tls-ca" in said
