"""The phases of a sequence on a worker: what the table allows, and nothing else."""

from itertools import product

import pytest

from scheduler.sequence import NEXT, Event, Phase
from tests.scheduler.build import ask_for


@pytest.mark.parametrize(("phase", "event"), [pair for pair in product(Phase, Event) if pair not in NEXT])
def test_a_step_that_the_table_lacks_raises_and_changes_nothing(phase: Phase, event: Event) -> None:
    running = ask_for("a", [1])
    running.phase = phase

    with pytest.raises(KeyError):
        running.happened(event)

    assert running.phase is phase


def test_a_sequence_can_leave_in_every_phase_and_only_once() -> None:
    assert {phase for phase, event in NEXT if event is Event.LEFT} == set(Phase) - {Phase.ENDED}
    assert all(following is Phase.ENDED for (_, event), following in NEXT.items() if event is Event.LEFT)


def test_every_phase_is_reached_from_the_queue() -> None:
    reached = {Phase.WAITING}
    for _ in Phase:
        reached |= {following for (phase, _), following in NEXT.items() if phase in reached}

    assert reached == set(Phase)


def test_a_sequence_cannot_come_from_a_handoff_and_go_to_one() -> None:
    with pytest.raises(AssertionError):
        ask_for("a", [1], hand_over=True, handed_over=True)
