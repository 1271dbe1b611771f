"""Threads that do jobs: each is told of once, lanes don't wait for each other, and nothing is told of too late."""

import threading

import pytest

from services.store.io_threads import IoThreads, Lane

Done = list[tuple[int, int | Exception]]


async def ends(threads: IoThreads[int, int], count: int) -> Done:
    """The next ``count`` jobs that end, and no more."""
    found: Done = []
    while len(found) < count:
        found += await threads.ended()
    assert len(found) == count
    return found


@pytest.mark.parametrize("batch", [1, 4, 100])
async def test_every_job_is_told_of_once_whatever_the_batch(batch: int) -> None:
    threads: IoThreads[int, int] = IoThreads({"a": Lane(3, batch)}, lambda job: job * job)
    for start in (1, 101):
        for job in range(start, start + 50):
            threads.submit("a", job)
        assert sorted(await ends(threads, 50), key=lambda end: end[0]) == [
            (job, job * job) for job in range(start, start + 50)
        ]
    threads.close()


async def test_one_lane_does_not_wait_for_another() -> None:
    gate = threading.Event()

    def work(job: int) -> int:
        if job < 0:
            assert gate.wait(10)
        return job

    threads: IoThreads[int, int] = IoThreads({"slow": Lane(1), "quick": Lane(1)}, work)
    threads.submit("slow", -1)
    threads.submit("quick", 1)
    assert await ends(threads, 1) == [(1, 1)]
    gate.set()
    assert await ends(threads, 1) == [(-1, -1)]
    threads.close()


async def test_what_a_job_raises_is_its_result() -> None:
    threads: IoThreads[int, int] = IoThreads({"a": Lane(1)}, lambda job: 1 // job)
    threads.submit("a", 0)
    ((job, result),) = await ends(threads, 1)
    assert job == 0
    assert isinstance(result, ZeroDivisionError)
    threads.submit("a", 1)
    assert await ends(threads, 1) == [(1, 1)], "and the thread goes on"
    threads.close()


async def test_closing_waits_for_what_was_submitted() -> None:
    done: list[int] = []
    threads: IoThreads[int, None] = IoThreads({"a": Lane(1)}, done.append)
    for job in range(1, 20):
        threads.submit("a", job)
    threads.close()
    assert done == list(range(1, 20))
