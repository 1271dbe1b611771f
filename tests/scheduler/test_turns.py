"""Turns of requests that were refused: whose is whose, in which order, and until when."""

from dataclasses import replace

import pytest

from scheduler.turns import GRACE, GRACE_S, LONGEST_TURN_S, Turns, Wanted
from scheduler.vocabulary import Ask, Priority, RequestId
from tests.scheduler.build import ask


def told(turns: Turns, asked: Ask, due_s: float, *, rank: int = 0, now: float = 0.0, work_s: float = 1.0) -> float:
    wanted = Wanted(prefill_s=work_s)
    return turns.tell(asked, wanted, rank=rank, due_s=due_s, turn=turns.of(asked, now=now), now=now)


def again(asked: Ask, name: str) -> Ask:
    """The same request, as a client sends it once more."""
    return replace(asked, request=RequestId(name))


def test_a_request_that_comes_back_is_known_by_its_prompt_lengths_tenant_and_priority() -> None:
    turns, asked = Turns(), ask("a", tokens=100)
    told(turns, asked, 3.0)

    assert turns.of(again(asked, "b"), now=3.0) is not None
    for other in (
        ask("b", tokens=104),
        ask("b", tokens=100, most=65),
        replace(asked, request=RequestId("b"), tenant="other"),
        replace(asked, request=RequestId("b"), priority=Priority.BATCH),
    ):
        assert turns.of(other, now=3.0) is None


def test_of_equal_requests_each_has_a_turn_and_the_first_to_come_takes_the_first_that_is_due() -> None:
    turns, asked = Turns(), ask("a")
    for name, due_s in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        told(turns, again(asked, name), due_s)
    assert len(turns) == 3

    first = turns.of(again(asked, "x"), now=2.0)
    assert first is not None
    assert first.due_s == 1.0
    turns.taken(first)
    second = turns.of(again(asked, "y"), now=2.0)
    assert second is not None
    assert second.due_s == 2.0
    turns.taken(second)
    assert turns.of(again(asked, "z"), now=2.0) is None  # the third is not to come yet: this is another client


def test_a_gateway_that_asks_again_for_the_same_request_keeps_its_place() -> None:
    turns = Turns()
    told(turns, ask("a"), 5.0)
    told(turns, ask("b", tokens=50), 6.0)
    assert told(turns, ask("a"), 5.0, now=1.0) == 4.0

    assert len(turns) == 2
    turn = turns.of(ask("b", tokens=50), now=6.0)
    assert turns.line(0, before=turn).due_s.tolist() == [5.0]


def test_the_line_before_a_newcomer_is_all_turns_of_its_rank_and_of_lower_ones() -> None:
    turns = Turns()
    for number, rank in enumerate((0, 1, 0, 2)):
        told(turns, ask(f"{number}", tokens=100 + number), 1.0 + number, rank=rank)

    assert turns.line(0).due_s.tolist() == [1.0, 3.0]
    assert turns.line(1).due_s.tolist() == [1.0, 2.0, 3.0]
    assert turns.line(2).latest_s == 4.0


def test_nobody_is_told_more_than_the_longest_time_and_keeps_its_place_when_it_comes_too_early() -> None:
    turns, asked = Turns(), ask("a")
    assert told(turns, asked, 300.0) == LONGEST_TURN_S
    told(turns, ask("b", tokens=50), 301.0)

    turn = turns.of(again(asked, "x"), now=LONGEST_TURN_S)
    assert turn is not None
    assert not turn.is_due(LONGEST_TURN_S)
    assert told(turns, again(asked, "x"), 300.0, now=LONGEST_TURN_S) == LONGEST_TURN_S
    assert turns.line(0).due_s.tolist() == [300.0, 301.0]


def test_a_turn_that_nobody_takes_expires_a_little_later() -> None:
    turns, asked = Turns(), ask("a")
    after_s = told(turns, asked, 10.0)
    late_s = after_s + GRACE_S + GRACE * after_s

    turns.expire(now=late_s)
    assert len(turns) == 1
    turns.expire(now=late_s + 0.1)
    assert len(turns) == 0
    assert turns.of(asked, now=late_s) is None


def test_what_share_of_turns_is_taken_is_learned() -> None:
    turns = Turns()
    before = turns.shows
    for number in range(10):
        told(turns, ask(f"{number}", tokens=100 + number), 1.0)
    turns.expire(now=10.0)
    assert turns.shows < 0.5 < before

    for number in range(40):
        asked = ask(f"back{number}", tokens=100 + number)
        told(turns, asked, 11.0, now=10.0)
        turn = turns.of(asked, now=11.0)
        assert turn is not None
        turns.taken(turn)
    assert turns.shows > 0.7


def test_turns_are_bounded_and_their_places_are_used_again() -> None:
    turns = Turns(most=4)
    assert [told(turns, ask(f"{n}", tokens=100 + n), 1.0 + n) for n in range(6)] == pytest.approx(
        [1.0, 2.0, 3.0, 4.0, LONGEST_TURN_S, LONGEST_TURN_S]
    )
    for n in range(50):  # one goes, one comes
        turn = turns.of(ask(f"{n}", tokens=100 + n), now=100.0)
        if turn is not None:
            turns.taken(turn)
        told(turns, ask(f"{n + 6}", tokens=106 + n), 100.0 + n, now=50.0)
    assert len(turns) == 4
    assert sorted(turns.line(0).due_s) == turns.line(0).due_s.tolist()
