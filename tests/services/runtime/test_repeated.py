"""A warning that comes often is said once, and then once in a while with its count."""

import asyncio
import logging

import pytest

from services.runtime.repeated import MOST, Repeated, RepeatedBy
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


def test_each_subject_is_said_for_itself_and_what_is_forgotten_is_still_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def happens() -> None:
        warnings = RepeatedBy(LOG)
        for _ in range(3):
            for subject in range(MOST + 1):  # so that each makes the eldest be forgotten
                warnings.say("broke off", str(subject), peer=subject)
                warnings.say("broke off", str(subject), peer=subject)
        await asyncio.sleep(61)

    virtual.run(happens())
    times = [line["times"] for line in lines(caplog)]
    assert sum(each if isinstance(each, int) else 1 for each in times) == 3 * 2 * (MOST + 1)
    assert {line["peer"] for line in lines(caplog)} == set(range(MOST + 1))


def test_a_peer_that_fails_again_and_again_is_two_lines_in_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def happens() -> None:
        warnings = RepeatedBy(LOG)
        for _ in range(50):
            warnings.say("broke off", "store-1", "deadline", peer="store-1")
            warnings.say("broke off", "store-2", "deadline", peer="store-2")
            await asyncio.sleep(1)
        await asyncio.sleep(11)

    virtual.run(happens())
    assert [(line["peer"], line["times"]) for line in lines(caplog)] == [
        ("store-1", None),
        ("store-2", None),
        ("store-1", 49),
        ("store-2", 49),
    ]
