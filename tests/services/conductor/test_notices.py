"""What is only starting is not complained about; what is missing after that is."""

import logging

import pytest

from scheduler.conductor import Conductor
from scheduler.vocabulary import Role
from services.conductor.notices import STARTING_S, Notices
from tests.scheduler.build import worker_report


def test_a_role_that_is_not_filled_yet_is_told_only_once_it_should_be(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    conductor, now = Conductor(), [0.0]
    notices = Notices(conductor, clock=lambda: now[0])
    conductor.worker_reported(worker_report("decode-0", role=Role.DECODE), now=0.0)
    assert conductor.degraded is not None
    notices.look()
    assert caplog.messages == []
    now[0] = STARTING_S
    for _ in range(2):
        notices.look()
    assert [message.split(":")[0] for message in caplog.messages] == ["degraded"]
    conductor.worker_reported(worker_report("prefill-0", role=Role.PREFILL), now=STARTING_S)
    notices.look()
    assert caplog.messages[1:] == ["no longer degraded"]
