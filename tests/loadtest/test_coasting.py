"""When mere time changes who is seated, so that steps that are alike may be taken together until then only."""

from math import inf

import pytest

from kvstore.device import DeviceBlocks
from loadtest.simulator.coasting import CoastingBatcher
from scheduler.progress import BatchLimits
from scheduler.tempo import HELD_TOKENS
from scheduler.vocabulary import Profile
from tests.scheduler.build import SIZE, admitted, ask_for, prompt, ran

SLOW = Profile(prefill_s=(0.0, 0.01, 0.0), step_s=(0.01, 0.001, 0.0))


def decoding(*, blocks: int = 64, tpot_s: float = inf) -> CoastingBatcher:
    """One stream that decodes, beside whoever comes."""
    limits = BatchLimits(8, 64, 1024, 100)
    worker = CoastingBatcher(DeviceBlocks(blocks), block_tokens=SIZE, limits=limits, profile=SLOW)
    worker.add(ask_for("a", prompt(SIZE), output=[1], handed_over=True, tpot_s=tpot_s), now=0)
    admitted(worker, a=1)
    ran(worker, worker.next(now=0))
    return worker


def test_with_nobody_waiting_time_changes_nothing() -> None:
    assert decoding().quiet_until_s(now=0) == inf


def test_whose_wait_for_a_seat_ends_is_looked_at_then() -> None:
    worker = decoding(tpot_s=0.0115)
    worker.add(ask_for("b", prompt(SIZE, start=50), output=[1], handed_over=True), now=1.0)

    assert admitted(worker, now=1.0) == []
    assert worker.quiet_until_s(now=1.0) == pytest.approx(1.0 + HELD_TOKENS * 0.0115)


def test_who_waits_for_blocks_gives_way_when_it_becomes_late() -> None:
    worker = decoding(blocks=16)
    worker.add(ask_for("large", prompt(60, start=50), ttft_s=2.0), now=1.0)
    worker.add(ask_for("small", prompt(SIZE, start=200)), now=1.0)

    assert admitted(worker, now=1.0) == []
    until_s = worker.quiet_until_s(now=1.0)
    assert until_s == pytest.approx(1.0 + 2.0 - 0.6)
    assert admitted(worker, now=until_s - 0.01) == []
    assert admitted(worker, now=until_s + 0.01) == ["small"]
