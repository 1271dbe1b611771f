"""How late a gateway's event loop runs."""

import asyncio
import time

import pytest

from services.gateway.lag import BEAT_S, Lag


def test_nothing_is_late_before_the_first_beat() -> None:
    assert Lag().seconds(now=1000.0) == 0.0


async def test_a_loop_that_was_held_up_is_late_by_that_much() -> None:
    lag, clock = Lag(), asyncio.get_running_loop().time
    beating = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    due = clock() + BEAT_S
    time.sleep(0.2)  # noqa: ASYNC251 - holding up the loop is what is measured
    assert lag.seconds(now=clock()) >= 0.17

    for _ in range(3):
        await asyncio.sleep(0)
    assert lag.seconds(now=due) == pytest.approx(0.18, abs=0.15)  # the beat came, and was late
    beating.cancel()
