"""The life of a request: what the table allows, and what the conductors hear of it."""

from itertools import product

import pytest

from scheduler.lifecycle import NEXT, Event, Life, Phase
from scheduler.vocabulary import Outcome

ENDS = {Phase.FINISHED, Phase.CANCELLED, Phase.FAILED}


def told(*events: Event) -> list[Outcome | None]:
    life = Life()
    return [life.happened(event) for event in events]


@pytest.mark.parametrize(("phase", "event"), [pair for pair in product(Phase, Event) if pair not in NEXT])
def test_a_step_that_the_table_lacks_raises_and_changes_nothing(phase: Phase, event: Event) -> None:
    life = Life(phase)

    with pytest.raises(KeyError):
        life.happened(event)

    assert life.phase is phase


def test_a_client_may_leave_and_patience_may_end_whenever_a_request_lives() -> None:
    for event in (Event.CLIENT_LEFT, Event.GAVE_UP):
        assert {phase for phase, each in NEXT if each is event} == set(Phase) - ENDS


def test_nothing_follows_an_end() -> None:
    assert not {phase for phase, _ in NEXT} & ENDS


def test_from_every_phase_a_request_can_finish() -> None:
    ending = {Phase.FINISHED}
    for _ in Phase:
        ending |= {phase for (phase, _), following in NEXT.items() if following in ending}

    assert ending == (set(Phase) - ENDS) | {Phase.FINISHED}


def test_a_request_that_is_handed_over_tells_so_once_and_then_that_it_finished() -> None:
    assert told(Event.PLACED, Event.FIRST_TOKEN, Event.CONFIRMED, Event.TOKENS, Event.TOKENS, Event.ENDED) == [
        None,
        None,
        Outcome.HANDED_OVER,
        None,
        None,
        Outcome.FINISHED,
    ]


def test_an_inline_request_is_never_handed_over() -> None:
    assert told(Event.PLACED_INLINE, Event.CONFIRMED, Event.TOKENS, Event.ENDED)[1:] == [None, None, Outcome.FINISHED]


def test_a_lost_placement_has_failed_and_the_request_is_placed_again() -> None:
    life = Life()
    life.happened(Event.PLACED)

    assert life.happened(Event.LOST) is Outcome.FAILED
    assert life.phase is Phase.PLACING
    assert not life.ended
    life.happened(Event.PLACED_INLINE)
    assert life.happened(Event.CLIENT_LEFT) is Outcome.CANCELLED
    assert life.ended
