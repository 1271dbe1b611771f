"""When a refused request is to come back, and who is served before it does. One prefill worker, seconds of work."""

from dataclasses import replace
from itertools import pairwise
from math import inf

import numpy as np
import pytest

from scheduler.turns import LONGEST_TURN_S
from scheduler.virtual_queue import COMES, FILLED, STRETCHED, Need, VirtualQueue
from scheduler.vocabulary import Ask, RequestId
from scheduler.waits import Levels, Room
from tests.scheduler.build import ask


def need(queue_s: float, *, work_s: float = 1.0, room_s: float = 4.0, decodes: Room | None = None) -> Need:
    """queue_s: what is there; room_s: what may be before it."""
    return Need(work_s, room_s, Levels(np.array([queue_s])), decodes)


def other(number: int) -> Ask:
    return ask(f"{number}", tokens=100 + number)


def refuse(queue: VirtualQueue, number: int, wants: Need, *, rank: int = 0, now: float = 0.0) -> float:
    asked = other(number)
    return queue.tell(asked, queue.turn(asked, now=now), wants, rank=rank, now=now)


def before(queue: VirtualQueue, asked: Ask, wants: Need, *, rank: int = 0, now: float = 0.0) -> int:
    return queue.before(asked, queue.turn(asked, now=now), wants, rank=rank, now=now)


def test_each_refused_one_is_told_to_come_a_prefill_later_than_the_one_before_it() -> None:
    queue = VirtualQueue()
    told = [refuse(queue, number, need(5.0)) for number in range(4)]

    assert told == pytest.approx([STRETCHED * (5.0 + number - COMES * 4.0) for number in range(4)])


def test_a_short_prompt_is_told_no_earlier_than_a_long_one_before_it() -> None:
    queue = VirtualQueue()
    long = refuse(queue, 0, need(5.0, work_s=3.0, room_s=1.0))
    short = refuse(queue, 1, need(5.0, work_s=0.1, room_s=60.0))

    assert short == long


def test_more_than_can_be_served_in_the_longest_time_are_told_that_and_keep_their_order() -> None:
    queue = VirtualQueue()
    told = [refuse(queue, number, need(5.0)) for number in range(200)]

    assert max(told) == told[-1] == LONGEST_TURN_S
    for number in range(150):
        queue.taken(queue.turn(other(number), now=LONGEST_TURN_S))
    again = [refuse(queue, number, need(5.0), now=LONGEST_TURN_S) for number in range(150, 200)]
    assert again == sorted(again)
    assert again[-1] < LONGEST_TURN_S


def test_a_newcomer_is_not_served_before_those_who_were_told_to_come_back() -> None:
    queue = VirtualQueue()
    for number in range(10):
        refuse(queue, number, need(5.0))

    assert before(queue, ask("new"), need(4.0, work_s=3.0), now=1.0) == 10  # though it would be in time itself


def test_who_comes_back_as_told_is_served_before_those_who_were_told_later_times() -> None:
    queue = VirtualQueue()
    told = [refuse(queue, number, need(5.0)) for number in range(10)]

    assert before(queue, replace(other(0), request=RequestId("back")), need(3.0), now=told[0]) == 0
    assert before(queue, replace(other(5), request=RequestId("early")), need(3.0), now=told[0]) > 0


def test_a_newcomer_is_served_where_every_turn_holds_all_the_same() -> None:
    """The only turn is due when 0.8 of 4 s are before it at most, at 3.5 s: so 6.7 s of work are none too many."""
    queue = VirtualQueue()
    due_s = refuse(queue, 0, need(5.0))
    most_s = due_s + FILLED * 4.0

    assert before(queue, ask("new"), need(3.0, work_s=most_s - 3.1)) == 0
    assert before(queue, ask("new"), need(3.0, work_s=most_s - 2.9)) == 1


def test_what_is_kept_for_those_who_do_not_come_is_free_again() -> None:
    queue = VirtualQueue()
    for number in range(30):
        refuse(queue, number, need(5.0))
    assert before(queue, ask("new"), need(4.0, work_s=3.0), now=1.0) > 0

    asked = ask("later")
    assert queue.turn(asked, now=30.0) is None  # by then a dozen turns have expired
    assert before(queue, asked, need(4.0, work_s=3.0), now=30.0) == 0


def test_an_interactive_newcomer_does_not_wait_for_the_turns_of_batch_requests() -> None:
    queue = VirtualQueue()
    for number in range(10):
        refuse(queue, number, need(5.0), rank=1)

    assert before(queue, ask("new"), need(5.0, work_s=3.0), rank=0) == 0
    assert before(queue, ask("new"), need(5.0, work_s=3.0), rank=1) == 10
    assert refuse(queue, 50, need(5.0), rank=0) < refuse(queue, 51, need(5.0), rank=1)


def test_a_batch_request_that_comes_back_gives_way_to_interactive_ones_that_are_to_come() -> None:
    queue = VirtualQueue()
    told_s = refuse(queue, 0, need(5.0), rank=1)
    for number in range(1, 10):
        refuse(queue, number, need(5.0), rank=0)

    assert before(queue, replace(other(0), request=RequestId("back")), need(3.0), rank=1, now=told_s) == 9


def test_where_decodes_are_short_each_is_told_to_come_a_seat_later() -> None:
    """Ten seats, a decode takes 20 s: one is free every 2 s."""
    queue = VirtualQueue()
    full = Room(np.array([0.0]), np.array([10.0]), 20.0)
    told = [refuse(queue, number, need(0.0, room_s=inf, decodes=full)) for number in range(8)]

    assert all(2.0 <= later - sooner <= 3.2 for sooner, later in pairwise(told))
    roomy = Room(np.array([10.0]), np.array([10.0]), 20.0)
    assert before(queue, ask("new"), need(0.0, room_s=inf, decodes=full), now=1.0) == 8
    assert before(queue, ask("new"), need(0.0, room_s=inf, decodes=roomy), now=1.0) == 0
