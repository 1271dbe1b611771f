"""A process that is turned away is named in the log, a line a minute."""

import pytest

from services.wire.turned_away import AGAIN_S, MOST, TurnedAway


def test_each_process_and_reason_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    away = TurnedAway(clock=lambda: now)
    ways = [("decode-1", "another model"), ("decode-1", "another dtype"), ("decode-2", "another model")]
    for process, reason in ways:
        for _ in range(10):
            away.say(process, reason)
    assert len(caplog.records) == 3
    now = AGAIN_S
    away.say("decode-1", "another model")
    assert len(caplog.records) == 4


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    away = TurnedAway(clock=lambda: 0.0)
    for number in range(MOST + 1):
        away.say(f"decode-{number}", "another model")
    away.say(f"decode-{MOST}", "another model")
    assert len(caplog.records) == MOST + 1
    away.say("decode-0", "another model")
    assert len(caplog.records) == MOST + 2
