"""Processes find each other through a real Redis, and do without it while it is away."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from services.registry.entry import Entry, Kind, encode, key, roll
from services.registry.redis_registry import RedisRegistry
from services.runtime.process import Refusal
from tests.services.registry.server import RedisServer, redis_server

CONDUCTOR = Entry(Kind.CONDUCTOR, "conductor-0", "10.0.0.1:7100", "host-a", 1)
STORE = Entry(Kind.STORE, "store-0", "unix:/run/store-0.sock", "host-a", 2)
FAR_STORE = Entry(Kind.STORE, "store-1", "10.0.0.2:7200", "host-b", 3)


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    """An empty one."""
    with shared.client() as client:
        client.flushall()
    return shared


@asynccontextmanager
async def member(
    server: RedisServer, announce: Entry | None = None, *, deployment: str = "one", life_s: float = 10.0
) -> AsyncIterator[RedisRegistry]:
    """A process's registry, in a hurry."""
    it = RedisRegistry(
        server.url, deployment, announce=announce, life_s=life_s, look_s=0.02, patience_s=min(life_s, 0.5)
    )
    task = asyncio.create_task(it.run(), name="registry")
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task


async def until(it: RedisRegistry, ask: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            change = it.change
            if ask():
                return
            await change.wait()


async def test_processes_find_each_other(server: RedisServer) -> None:
    async with (
        member(server) as gateway,
        member(server, CONDUCTOR),
        member(server, STORE),
        member(server, FAR_STORE) as far,
    ):
        for it in (gateway, far):
            await until(it, lambda it=it: it.conductors("host-c") == (CONDUCTOR.address,))  # type: ignore[misc]
        await until(gateway, lambda: gateway.store("host-a") == STORE.address)
        await until(gateway, lambda: gateway.store("host-b") == FAR_STORE.address)
        assert gateway.store("host-c") is None


async def test_conductors_are_in_the_same_order_for_everybody(server: RedisServer) -> None:
    others = [Entry(Kind.CONDUCTOR, f"conductor-{n}", f"10.0.0.{n}:7100", "h", n) for n in (2, 1)]
    async with member(server) as it, member(server, others[0]), member(server, others[1]):
        await until(it, lambda: it.conductors("h") == ("10.0.0.1:7100", "10.0.0.2:7100"))


async def test_whoever_ends_takes_its_key_away(server: RedisServer) -> None:
    async with member(server) as it:
        async with member(server, CONDUCTOR):
            await until(it, lambda: bool(it.conductors("h")))
        with server.client() as client:
            assert not client.exists(key("one", Kind.CONDUCTOR, "conductor-0"))
        await until(it, lambda: not it.conductors("h"))


async def test_whoever_is_killed_is_gone_once_its_key_expires(server: RedisServer) -> None:
    async with member(server) as it:
        with server.client() as client:
            client.set(key("one", Kind.CONDUCTOR, "conductor-0"), encode(CONDUCTOR), px=300)
            client.sadd(roll("one", Kind.CONDUCTOR), "conductor-0")
        await until(it, lambda: bool(it.conductors("h")))
        await until(it, lambda: not it.conductors("h"))
        with server.client() as client:
            await polled("nobody looks for it again", lambda: not client.scard(roll("one", Kind.CONDUCTOR)))


async def test_two_deployments_share_a_redis_and_do_not_meet(server: RedisServer) -> None:
    other = Entry(Kind.CONDUCTOR, "conductor-0", "10.0.0.9:7100", "host-a", 4)
    async with (
        member(server, CONDUCTOR) as one,
        member(server, other, deployment="two") as two,
    ):
        await until(one, lambda: one.conductors("h") == (CONDUCTOR.address,))
        await until(two, lambda: two.conductors("h") == (other.address,))


async def test_a_restart_of_redis_that_loses_everything_is_not_noticed(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server:
        async with member(server, life_s=60.0) as gateway, member(server, CONDUCTOR, life_s=60.0):
            await until(gateway, lambda: bool(gateway.conductors("h")))
            change = gateway.change
            with caplog.at_level(logging.INFO):
                server.kill()
                await heard(caplog, "registry away", 2)
                assert gateway.conductors("h") == (CONDUCTOR.address,)
                server.start()
                await heard(caplog, "registry back", 2)
            with server.client() as client:
                place = key("one", Kind.CONDUCTOR, "conductor-0")
                await polled("it is announced again", lambda: bool(client.exists(place)))
            assert gateway.conductors("h") == (CONDUCTOR.address,)
            assert not change.is_set()
            assert lines(caplog, "registry away") == 2, "one line for each process, however often it tried"


async def heard(caplog: pytest.LogCaptureFixture, message: str, times: int) -> None:
    await polled(message, lambda: lines(caplog, message) >= times)


async def polled(what: str, true: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(15):
            while not true():  # noqa: ASYNC110 - what is watched has no event to wait for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


def lines(caplog: pytest.LogCaptureFixture, message: str) -> int:
    return sum(record.getMessage() == message for record in caplog.records)


async def test_a_redis_that_comes_later_is_no_trouble() -> None:
    with redis_server() as server:
        server.kill()
        async with member(server) as gateway, member(server, CONDUCTOR):
            server.start()
            await until(gateway, lambda: gateway.conductors("h") == (CONDUCTOR.address,))


async def test_what_others_write_there_is_not_believed(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as client:
        for id, value in [("bad", "junk"), ("worse", '{"address": 1}'), ("b\xe4d id", "x")]:
            client.set(key("one", Kind.CONDUCTOR, id), value)
            client.sadd(roll("one", Kind.CONDUCTOR), id)
    async with member(server) as it, member(server, CONDUCTOR):
        await until(it, lambda: it.conductors("h") == (CONDUCTOR.address,))
        await heard(caplog, "an entry of the registry is passed over", 3)


async def test_of_two_that_share_an_id_one_gives_way_and_says_so(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    twin = Entry(Kind.CONDUCTOR, "conductor-0", "10.0.0.7:7100", "host-b", CONDUCTOR.incarnation + 1)
    async with member(server, CONDUCTOR), member(server, twin), member(server) as it:
        await heard(caplog, "another conductor is called conductor-0 too; give each its own --id", 1)
        await until(it, lambda: it.conductors("h") == (twin.address,))


def test_what_is_no_url_of_redis_is_refused() -> None:
    with pytest.raises(Refusal, match="--redis-url is no URL of Redis, such as redis://host:6379/0"):
        RedisRegistry("nonsense", "one")
