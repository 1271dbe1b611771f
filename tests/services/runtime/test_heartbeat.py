"""When a child counts as silent; what hangs and is killed for it is in ``test_supervisor.py``."""

import asyncio
import os
from contextlib import closing

import pytest

from services.runtime.heartbeat import Heartbeat, Silence
from tests.loadtest import virtual


def test_silence_grows_by_the_time_between_looks_and_ends_with_a_beat() -> None:
    silence = Silence(every_s=1.0)
    for _ in range(3):
        silence.looked(after_s=1.0, beaten=False)
    assert silence.lasted_s == 3.0
    silence.looked(after_s=1.0, beaten=True)
    assert silence.lasted_s == 0.0


def test_a_look_that_comes_late_counts_as_two() -> None:
    """The machine slept for an hour, and its processes with it."""
    silence = Silence(every_s=1.0)
    silence.looked(after_s=3600.0, beaten=False)
    assert silence.lasted_s == 2.0


def test_who_was_held_up_together_with_the_supervisor_is_not_silent_but_who_stays_so_is() -> None:
    """As when all are stopped, and go on: the clock has leapt, and no beat has come yet."""

    async def held_up() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual.VirtualLoop)
        with closing(Heartbeat()) as heartbeat:
            os.write(heartbeat.writer, b".")
            watching = asyncio.create_task(heartbeat.silent(10.0, starting_s=10.0))
            await asyncio.sleep(1.5)
            loop.leap(3600.0)
            went_on = loop.time()
            await watching
            return loop.time() - went_on

    assert virtual.run(held_up()) == pytest.approx(8.0, abs=1.0)


@pytest.mark.parametrize(("said", "silent_s"), [(b"", 120.0), (b".", 10.0)], ids=["starts", "has begun"])
def test_a_child_that_has_not_beaten_yet_may_be_silent_for_longer(said: bytes, silent_s: float) -> None:
    async def starting() -> float:
        with closing(Heartbeat()) as heartbeat:
            os.write(heartbeat.writer, said)
            return await heartbeat.silent(10.0, starting_s=120.0)

    assert virtual.run(starting()) == pytest.approx(silent_s, abs=2.0)
