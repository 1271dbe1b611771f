"""Threads for text: shared in turn, whatever one request or one client brings. Orders of work, no times."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.gateway.errors import ApiError
from services.gateway.text_threads import SHORT, Pieces, TextThreads, at_once, one_piece

LONG = SHORT + 1


def pieces(name: str, count: int, done: list[str]) -> Pieces[str]:
    for number in range(count):
        done.append(f"{name}{number}")
        if number < count - 1:
            yield
    return name


@asynccontextmanager
async def threads(count: int, *, most_waiting: int = 100, most_bytes: int = 1 << 30) -> AsyncIterator[TextThreads]:
    made = TextThreads(count, most_waiting=most_waiting, most_bytes=most_bytes)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def held(shared: TextThreads, size: int = 1, client: str = "holder") -> AsyncIterator[Callable[[], None]]:
    """A thread is taken until the block's end, or until what it gives is called."""
    taken, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(taken.set)
        go.wait(10)

    running = asyncio.create_task(shared.run(one_piece(hold), size=size, client=client))
    await taken.wait()
    try:
        yield go.set
    finally:
        go.set()
        await running


async def started(shared: TextThreads, *works: tuple[Pieces[str], int, str]) -> "list[asyncio.Task[str]]":
    """Each waits in its line when this returns, in this order."""
    tasks = []
    for work, size, client in works:
        tasks.append(asyncio.create_task(shared.run(work, size=size, client=client)))
        await asyncio.sleep(0)
    return tasks


async def order_of(count: int, *works: tuple[str, int, int, str]) -> list[str]:
    """In which order pieces are done that wait while all threads are taken. Works: name, pieces, size, client."""
    done: list[str] = []
    async with threads(count) as shared:
        async with held(shared):
            made = [(pieces(name, many, done), size, client) for name, many, size, client in works]
            tasks = await started(shared, *made)
        assert await asyncio.gather(*tasks) == [name for name, *_ in works]
    return done


async def test_requests_take_turns_piece_by_piece() -> None:
    assert await order_of(1, ("a", 3, 1, ""), ("b", 2, 1, ""), ("c", 1, 1, "")) == ["a0", "b0", "c0", "a1", "b1", "a2"]


async def test_clients_take_turns_however_many_requests_each_has() -> None:
    crowd = [(f"x{number}.", 1, LONG, "crowd") for number in range(20)]
    assert (await order_of(1, *crowd, ("y", 2, LONG, "one"))).index("y1") == 3


async def test_a_short_text_waits_for_one_piece_of_a_long_one() -> None:
    done = await order_of(1, ("long", 20, LONG, ""), ("a", 1, SHORT, ""), ("b", 1, SHORT, ""))
    assert done.index("a0") <= 1
    assert done.index("b0") <= 3


async def test_long_texts_get_their_turn_among_many_short_ones() -> None:
    done = await order_of(1, *[(f"s{number}.", 1, 1, "") for number in range(20)], ("long", 2, LONG, ""))
    assert done.index("long0") <= 2
    assert done.index("long1") <= 4


async def test_long_texts_never_take_the_last_of_several_threads() -> None:
    done: list[str] = []
    async with threads(2) as shared, held(shared, size=LONG) as release:
        (long,) = await started(shared, (pieces("long", 1, done), LONG, "other"))
        (short,) = await started(shared, (pieces("short", 1, done), 1, ""))
        assert await short == "short"
        assert not long.done()
        release()
        assert await long == "long"


async def test_a_request_has_one_piece_running_at_a_time() -> None:
    running: list[int] = []
    most: list[int] = []

    def counted() -> Pieces[None]:
        for _ in range(20):
            running.append(1)
            most.append(len(running))
            running.pop()
            yield

    async with threads(4) as shared:
        await shared.run(counted(), size=1)
    assert max(most) == 1


async def test_what_a_client_that_leaves_had_waiting_is_never_begun() -> None:
    done: list[str] = []
    async with threads(1) as shared:
        async with held(shared):
            gone, stays = await started(shared, (pieces("gone", 5, done), 1, ""), (pieces("stays", 1, done), 1, ""))
            gone.cancel()
        assert await stays == "stays"
        assert shared.waiting == shared.waiting_bytes == 0
    assert done == ["stays0"]


async def test_what_runs_when_its_client_leaves_ends_with_its_piece() -> None:
    begun, go, done = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def work() -> Pieces[None]:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        done.append("first")
        yield
        done.append("second")

    async with threads(1) as shared:
        task = asyncio.create_task(shared.run(work(), size=1))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await shared.run(one_piece(lambda: 7), size=1) == 7
    assert done == ["first"]


@pytest.mark.parametrize(("bounds", "size"), [({"most_waiting": 2}, 1), ({"most_bytes": 100}, 98)])
async def test_more_than_may_wait_is_429(bounds: dict[str, int], size: int) -> None:
    async with threads(1, **bounds) as shared:
        async with held(shared):
            (first,) = await started(shared, (pieces("a", 1, []), 2, ""))
            with pytest.raises(ApiError) as error:
                await shared.run(pieces("b", 1, []), size=size)
            assert error.value.status == 429
            assert error.value.retry_after_s
        assert await first == "a"
        assert await shared.run(pieces("b", 1, []), size=1000) == "b", "alone, any size is taken"


async def test_errors_are_raised_where_the_work_was_asked_for() -> None:
    def fails() -> Pieces[None]:
        yield
        raise ValueError("no")

    async with threads(1) as shared:
        with pytest.raises(ValueError, match="no"):
            await shared.run(fails(), size=1)
        assert await shared.run(one_piece(lambda: 7), size=1) == 7


def test_work_in_pieces_can_be_done_at_once() -> None:
    assert at_once(pieces("a", 3, [])) == "a"
