"""Jobs run one after the other in a thread of their own; whoever waits for one waits for its end."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from services.worker import model_thread
from services.worker.model_thread import EngineFailed, ModelThread


@pytest.fixture
async def thread() -> AsyncIterator[ModelThread]:
    made = ModelThread()
    made.start()
    yield made
    assert await made.stop()


async def test_jobs_run_in_the_order_they_were_given_outside_of_the_event_loops_thread(thread: ModelThread) -> None:
    ran: list[tuple[int, str]] = []

    def job(number: int) -> int:
        ran.append((number, threading.current_thread().name))
        return number

    results = await asyncio.gather(*(thread.run(lambda number=number: job(number)) for number in range(5)))  # type: ignore[misc]
    assert results == [0, 1, 2, 3, 4]
    assert ran == [(number, "model") for number in range(5)]


async def test_cancelling_a_wait_ends_only_with_its_job(thread: ModelThread) -> None:
    started, may_end, ended = asyncio.Event(), threading.Event(), False
    loop = asyncio.get_running_loop()

    def job() -> None:
        nonlocal ended
        loop.call_soon_threadsafe(started.set)
        assert may_end.wait(5)
        ended = True

    wait = asyncio.create_task(thread.run(job))
    await started.wait()
    wait.cancel()
    wait.cancel()
    await asyncio.wait([wait], timeout=0.05)
    assert not wait.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert ended


async def test_after_an_engine_has_raised_no_job_runs_any_more(thread: ModelThread) -> None:
    def broken() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(EngineFailed, match="out of memory"):
        await thread.run(broken)
    ran = False

    def later() -> None:
        nonlocal ran
        ran = True

    with pytest.raises(EngineFailed, match="before"):
        await thread.run(later)
    assert not ran


async def test_a_thread_that_has_ended_takes_no_job() -> None:
    thread = ModelThread()
    thread.start()
    assert await thread.stop()
    with pytest.raises(EngineFailed, match="ended"):
        await thread.run(lambda: None)


async def test_a_job_that_hangs_is_noticed_and_one_without_a_bound_is_not(
    thread: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_thread, "LONGEST_JOB_S", 0.0)
    for bounded in (True, False):
        running, let_go = threading.Event(), threading.Event()

        def job(running: threading.Event = running, let_go: threading.Event = let_go) -> None:
            running.set()
            assert let_go.wait(10.0)

        waiting = asyncio.create_task(thread.run(job, bounded=bounded))
        assert await asyncio.to_thread(running.wait, 10.0)
        assert thread.gets_on() is not bounded
        let_go.set()
        await waiting
        await thread.run(lambda: None, bounded=False)
        assert thread.gets_on()
    monkeypatch.undo()
