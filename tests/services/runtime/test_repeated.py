"""A warning that comes often is said once, and then once in a while with its count."""

import asyncio
import logging

import pytest

from services.runtime.repeated import Repeated
from tests.loadtest import virtual

LOG = logging.getLogger("tests.repeated")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record)["fields"] for record in caplog.records]


def test_the_first_is_said_at_once_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def happens() -> None:
        warning = Repeated(LOG, "torn")
        for block in range(5):
            warning.say(block=block)
        assert lines(caplog) == [{"block": 0, "times": None}]
        await asyncio.sleep(61)
        assert lines(caplog)[1:] == [{"block": 4, "times": 4}]
        await asyncio.sleep(600)
        assert len(lines(caplog)) == 2, "nothing happened any more"
        warning.say(block=9)
        assert lines(caplog)[2:] == [{"block": 9, "times": None}]

    virtual.run(happens())


def test_a_steady_stream_is_a_line_a_minute_and_none_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def happens() -> None:
        warning = Repeated(LOG, "torn")
        for block in range(600):
            warning.say(block=block)
            await asyncio.sleep(1)
        await asyncio.sleep(120)

    virtual.run(happens())
    assert len(lines(caplog)) == 11
    times = [line["times"] for line in lines(caplog)]
    assert sum(each if isinstance(each, int) else 1 for each in times) == 600
