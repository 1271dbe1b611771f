"""Who says where others are: flags first, then the registry."""

import asyncio

import pytest

from services.registry.directory import Found, Static, directory
from services.registry.entry import Entry, Kind
from services.registry.redis_registry import RedisRegistry
from services.runtime.flags import load
from services.runtime.process import Refusal
from services.runtime.settings import MemberSettings

CONDUCTOR = Entry(Kind.CONDUCTOR, "conductor-0", "10.0.0.1:7100", "host-a", 1)
NEAR = Entry(Kind.STORE, "store-0", "unix:/run/store-0.sock", "host-a", 2)
FAR = Entry(Kind.STORE, "store-1", "10.0.0.2:7200", "host-b", 3)
HIDDEN = Entry(Kind.CONDUCTOR, "conductor-1", "unix:/run/conductor-1.sock", "host-b", 4)


def found(flags: Static, *entries: Entry) -> Found:
    """On host-a, with a registry that has heard of these."""
    registry = RedisRegistry("redis://nobody.example", "any")
    registry._known.heard(entries, now=0.0)
    return Found(flags, registry, "host-a")


async def test_what_flags_leave_open_the_registry_answers() -> None:
    it = found(Static(), FAR, NEAR, HIDDEN, CONDUCTOR)
    assert it.conductors == (CONDUCTOR.address,), "a Unix socket of another host is of no use"
    assert it.store == NEAR.address


async def test_flags_win_over_the_registry() -> None:
    it = found(Static(("c:1",), "s:2"), CONDUCTOR, NEAR)
    assert (it.conductors, it.store) == (("c:1",), "s:2")


async def test_a_host_without_a_store_has_none() -> None:
    assert found(Static(), FAR).store is None


async def test_without_a_registry_nothing_ever_changes() -> None:
    async with directory(settings(), conductors=["c:1"]) as it:
        assert (it.conductors, it.store) == (("c:1",), None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await it.change.wait()


async def test_a_url_that_is_none_is_refused_before_anything_is_served() -> None:
    with pytest.raises(Refusal, match="--redis-url"):
        async with directory(settings("--redis-url=nonsense")):
            raise AssertionError("not reached")


def settings(*argv: str) -> MemberSettings:
    return load(MemberSettings, argv, prog="moonpool any")
