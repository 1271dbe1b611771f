"""What a connection may keep a gateway waiting for, and how it ends."""

import asyncio
import gzip
import json
import logging
import os
import resource
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.gateway.http.callers import Callers
from services.gateway.http.limits import MOST_PIPELINED, Limits, connections_for
from services.gateway.text import Text
from tests.field.raw_http import BODY, Reply, Wire, asked, head, post, wire
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import Fault

SOON = Limits(head_s=0.1, body_s=0.1, keep_alive_s=0.1)
LIVE = head("GET /live")


@asynccontextmanager
async def met(cluster: FakeCluster, text: Text, limits: Limits, **settings: Any) -> AsyncIterator[tuple[Gateway, Wire]]:
    """A gateway and a connection to it."""
    async with running(cluster, text, limits=limits, **settings) as gateway:
        connection = await wire(gateway.url)
        yield gateway, connection
        connection.leave()


async def counted(gateway: Gateway, name: str) -> dict[str, float]:
    """A counter's samples by their labels, but for those that have counted nothing."""
    page = (await gateway.http.get("/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith(name)]
    samples = {line.rpartition(" ")[0].removeprefix(name): float(line.rpartition(" ")[2]) for line in lines}
    return {labels: value for labels, value in samples.items() if value}


async def test_a_connection_that_sends_nothing_is_closed_without_a_word(cluster: FakeCluster, text: Text) -> None:
    """What a browser opened in advance would take an unasked answer for the answer to its request."""
    async with met(cluster, text, SOON) as (_, connection):
        assert await connection.ended()


@pytest.mark.parametrize("part", [LIVE[:1], LIVE[:20], LIVE[:-2]])
async def test_a_request_whose_head_is_never_complete_is_408(cluster: FakeCluster, text: Text, part: bytes) -> None:
    async with met(cluster, text, SOON) as (gateway, connection):
        connection.send(part)
        reply = await connection.reply()
        assert (reply.status, reply.error["code"], reply.closed) == (408, "request_timeout", True)
        assert await counted(gateway, "moonpool_gateway_refused_total") == {'{status="408"}': 1}


async def test_a_head_that_drips_has_no_more_time_than_one_that_stops(cluster: FakeCluster, text: Text) -> None:
    limits = Limits(head_s=0.2, keep_alive_s=60.0)
    async with met(cluster, text, limits) as (_, connection):
        connection.send(LIVE + LIVE[:4])  # the second of a connection
        assert (await connection.reply()).status == 200
        replying = asyncio.create_task(connection.reply())
        while not replying.done():
            connection.send(b"X")
            await asyncio.wait([replying], timeout=0.02)
        assert replying.result().status == 408


async def test_a_connection_is_idle_for_as_long_as_is_kept_alive_and_no_longer(
    cluster: FakeCluster, text: Text
) -> None:
    async with met(cluster, text, Limits(head_s=0.05, keep_alive_s=0.3)) as (_, connection):
        loop = asyncio.get_running_loop()
        connection.send(LIVE)
        assert (await connection.reply()).status == 200
        answered = loop.time()
        assert await connection.ended()
        assert loop.time() - answered > 0.25


async def test_a_body_that_stops_is_408_and_one_that_was_not_asked_for_ends_its_connection(
    cluster: FakeCluster, text: Text
) -> None:
    async with met(cluster, text, SOON, body_timeout_s=0.1) as (gateway, connection):
        connection.send(post()[:-5])
        reply = await connection.reply()
        assert (reply.status, reply.error["code"], reply.closed) == (408, "request_timeout", True)
        assert f"{len(BODY) - 5} bytes had come" in reply.error["message"]
        assert (await counted(gateway, "moonpool_gateway_requests_total")) == {
            '{endpoint="/v1/completions",status="408"}': 1
        }
        other = await wire(gateway.url)
        other.send(head("GET /live", "Content-Length: 100") + b"part")
        assert (await other.reply()).status == 200
        assert await other.ended()
        other.leave()


async def test_a_slow_body_has_a_second_for_each_kibibyte(cluster: FakeCluster, text: Text) -> None:
    async with met(cluster, text, SOON, body_timeout_s=0.1) as (_, connection):
        body = BODY + b" " * 4096
        connection.send(post(body)[:-1])
        replying = asyncio.create_task(connection.reply())
        await asyncio.wait([replying], timeout=0.4)
        assert not replying.done()
        connection.send(b" ")
        assert (await replying).status == 200


async def test_what_follows_a_body_that_was_not_read_is_the_next_request(cluster: FakeCluster, text: Text) -> None:
    async with met(cluster, text, Limits()) as (_, connection):
        connection.send(head("POST /nowhere", "Content-Length: 100000") + b"x" * 50_000)
        assert (await connection.reply()).status == 404
        connection.send(b"x" * 50_000 + LIVE)
        assert (await connection.reply()).status == 200


async def test_an_answer_before_an_expected_body_ends_the_connection(cluster: FakeCluster, text: Text) -> None:
    """Whether the body still comes is the client's choice (RFC 9110, 10.1.1), so what comes next can't be told."""
    async with met(cluster, text, Limits()) as (_, connection):
        connection.send(head("POST /nowhere", "Expect: 100-continue", "Content-Length: 100"))
        assert (await connection.reply()).status == 404
        assert await connection.ended()


@pytest.mark.parametrize("where", ["in its body", "before its first token"])
async def test_a_client_that_leaves_is_499_and_no_failure_of_ours(
    gateway: Gateway, cluster: FakeCluster, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    connection = await wire(gateway.url)
    if where == "in its body":
        connection.send(post()[:-5])
    else:
        cluster.decode.faults = [Fault(after=0, hold=True)]
        connection.send(post())
        await cluster.decode.called()
    connection.leave()
    left = {'{endpoint="/v1/completions",status="499"}': 1.0}
    async with asyncio.timeout(5):
        while await counted(gateway, "moonpool_gateway_requests_total") != left:
            pass
    whole = await counted(gateway, "http_requests_total")
    assert whole['{handler="/v1/completions",method="POST",status="4xx"}'] == 1
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_pipelined_requests_are_answered_in_order_and_no_more_than_a_bound_of_them(
    cluster: FakeCluster, text: Text
) -> None:
    async with met(cluster, text, Limits()) as (_, connection):
        connection.send(post() + head("GET /nowhere") + LIVE)
        assert [(await connection.reply()).status for _ in range(3)] == [200, 404, 200]
        connection.send(LIVE * 1000)
        assert [(await connection.reply()).status for _ in range(MOST_PIPELINED)] == [200] * MOST_PIPELINED
        assert (await connection.reply()).closed


async def test_an_error_in_a_second_request_does_not_break_into_the_first_one_s_answer(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    connection = await wire(gateway.url)
    cluster.decode.gate.clear()
    connection.send(post())
    await cluster.decode.called()
    connection.send(b"\x16\x03\x01 this is none\r\n\r\n")
    cluster.decode.gate.set()
    assert json.loads((await connection.reply()).body)["usage"]["completion_tokens"] == 2
    assert await connection.ended()
    connection.leave()


async def test_one_connection_too_many_is_503_and_the_longest_idle_makes_room_after_a_second(
    cluster: FakeCluster, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with met(cluster, text, Limits(connections=2)) as (gateway, first):
        first.send(LIVE)
        assert (await first.reply()).status == 200
        second = await wire(gateway.url)
        second.send(LIVE)
        assert (await second.reply()).status == 200
        third = await wire(gateway.url)
        third.send(LIVE)
        reply = await third.reply()
        assert (reply.status, reply.error["code"], reply.closed) == (503, "too_many_connections", True)
        assert reply.headers["retry-after"] == "1"
        monkeypatch.setattr("services.gateway.http.acceptor.EVICTABLE_S", 0.0)
        fourth = await wire(gateway.url)
        fourth.send(LIVE)
        assert (await fourth.reply()).status == 200
        assert await first.ended()
        second.send(LIVE)
        assert (await second.reply()).status == 200
        for each in (second, third, fourth):
            each.leave()


async def test_a_connection_that_is_being_answered_never_makes_room(
    cluster: FakeCluster, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.http.acceptor.EVICTABLE_S", 0.0)
    async with met(cluster, text, Limits(connections=1)) as (gateway, first):
        cluster.decode.gate.clear()
        first.send(post())
        await cluster.decode.called()
        second = await wire(gateway.url)
        assert (await second.reply()).status == 503
        cluster.decode.gate.set()
        assert (await first.reply()).status == 200
        second.leave()


@pytest.mark.parametrize(
    ("open_files", "asked", "most"),
    [
        (1024, None, 768),
        (8192, None, 7680),
        (1 << 20, None, 16384),
        (1 << 20, 50_000, 50_000),
        (1024, 100, 100),
        (1024, 100_000, 768),
        (20, None, 16),
    ],
)
def test_connections_leave_descriptors_for_our_own_calls(open_files: int, asked: int | None, most: int) -> None:
    assert connections_for(open_files, asked) == most


async def test_where_descriptors_are_used_up_accepting_pauses_and_the_log_has_a_line_a_second(
    cluster: FakeCluster, text: Text, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("services.gateway.http.acceptor.PAUSE_S", 0.01)
    loop = asyncio.get_running_loop()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with running(cluster, text) as gateway:
        address = ("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        clients = [socket.socket() for _ in range(20)]
        highest = max(map(int, os.listdir("/proc/self/fd")))
        taken = [os.dup(0)]
        try:
            while taken[-1] < highest:  # what is free below the highest that is in use
                taken.append(os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, limits[1]))
            for client in clients:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                await loop.sock_sendall(client, head("GET /live", "Connection: close"))
            began = loop.time()
            while loop.time() - began < 0.2:
                assert all(not part for part in select.select(clients, [], [], 0.0))
                await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for each in taken:
                os.close(each)
        for client in clients:
            assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await loop.sock_recv(client, 1000) == b""
            client.close()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["no connection can be taken"]


async def test_bodies_that_are_still_coming_are_bounded_together(
    cluster: FakeCluster, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.http.body.MOST_HELD_BYTES", 0)
    monkeypatch.setattr("services.gateway.http.body.MOST_HELD_BODIES", 1)
    piece = gzip.compress(b" " * 40_000)
    part = head("POST /v1/completions", f"Content-Length: {len(piece) + 1}", "Content-Encoding: gzip") + piece
    async with running(cluster, text, max_body_bytes=65536) as gateway:
        first, second = await wire(gateway.url), await wire(gateway.url)
        first.send(part)
        second.send(part)
        loser, reply = await first_reply(first, second)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        loser.leave()
        other = second if loser is first else first
        other.send(b"\0")  # padding: complete now, and no JSON
        assert (await other.reply()).status == 400
        other.send(post())
        assert (await other.reply()).status == 200
        other.leave()


async def first_reply(*wires: Wire) -> tuple[Wire, Reply]:
    """The first that is answered, and how."""
    asking = {asyncio.create_task(each.reply()): each for each in wires}
    done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    task = done.pop()
    return asking[task], task.result()


async def test_what_comes_to_no_endpoint_is_counted_by_its_status(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text, callers=Callers(local=True)) as gateway:
        for request in (head("GET /nowhere"), head("GET /live", host="evil.example"), b"nonsense\r\n\r\n"):
            await asked(gateway.url, request)
        found = await counted(gateway, "moonpool_gateway_refused_total")
        assert found == {f'{{status="{status}"}}': 1 for status in (404, 403, 400)}
