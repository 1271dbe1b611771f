"""Whose turn it is: to be seated, and to get chunks. A token of prefill takes 10 ms where nothing else is said."""

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.batching import Batcher
from scheduler.queue import MOST_PASSED
from scheduler.sequence import Running
from scheduler.vocabulary import Priority, Profile, RequestId
from tests.scheduler.build import SIZE, admitted, ask_for, batcher, prompt, ran

SLOW = Profile(prefill_s=(0.0, 0.01, 0.0), step_s=(0.0, 0.0, 0.0))
BATCH = Priority.BATCH


def seats_in_turn(worker: Batcher, *, now: float = 0.0) -> list[str]:
    """Of a worker with one seat: who has it, one after the other."""
    order = []
    while seated := admitted(worker, now=now):
        order += seated
        for name in seated:
            worker.cancel(name)  # type: ignore[arg-type]
    return order


def add(worker: Batcher, name: str, tokens: int = 10, *, now: float = 0.0, **promised: object) -> None:
    assert worker.add(ask_for(name, prompt(tokens), **promised), now=now) is None  # type: ignore[arg-type]


# -- seats ------------------------------------------------------------------------------------------------------------


def test_who_is_due_first_is_seated_first() -> None:
    worker, _ = batcher(blocks=100, seats=1, profile=SLOW)
    add(worker, "patient", ttft_s=9.0)
    add(worker, "urgent", ttft_s=1.0)
    add(worker, "long", 300, ttft_s=5.0)

    assert seats_in_turn(worker) == ["urgent", "long", "patient"]


def test_what_is_expected_to_be_cached_is_no_work() -> None:
    worker, _ = batcher(blocks=100, seats=1, profile=SLOW)
    add(worker, "new", 300, ttft_s=2.0)  # will be late, as its prefill takes 3 s
    add(worker, "known", 300, ttft_s=2.0, cached=280)

    assert seats_in_turn(worker) == ["known", "new"]


def test_who_will_be_late_anyway_comes_after_those_who_can_be_in_time() -> None:
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "late", 200, ttft_s=1.0)
    add(worker, "late as well", 200, ttft_s=-1.0)
    add(worker, "no promise")
    add(worker, "in time", ttft_s=1.0)

    assert seats_in_turn(worker) == ["in time", "no promise", "late", "late as well"]


@pytest.mark.parametrize(("now", "order"), [(0.4, ["tight", "other"]), (0.6, ["other", "tight"])])
def test_who_becomes_late_while_it_waits_steps_back(now: float, order: list[str]) -> None:
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "tight", 100, ttft_s=1.5)  # 1 s of it is its own prefill
    add(worker, "other", ttft_s=9.0)

    assert seats_in_turn(worker, now=now) == order


def test_an_admitted_one_that_is_late_is_overtaken_only_by_those_that_are_due_before_it_is_too_late() -> None:
    """A quarter of the 1.5 s that it had left: until 1.9 s."""
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "tight", 100, ttft_s=1.5, admitted=True)  # 1 s of it is its own prefill
    add(worker, "sooner", ttft_s=1.7)
    add(worker, "later", ttft_s=2.5)

    assert seats_in_turn(worker, now=0.6) == ["sooner", "tight", "later"]


def test_an_admitted_one_that_is_far_too_late_steps_back_for_good() -> None:
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "tight", 100, ttft_s=1.5, admitted=True)
    add(worker, "later", ttft_s=9.0)

    assert worker.snapshot().waiting == 2
    assert seats_in_turn(worker, now=1.0) == ["later", "tight"]


def test_an_admitted_one_that_leaves_while_it_is_late_is_in_no_line_any_more() -> None:
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "running", ttft_s=0.2)
    assert admitted(worker) == ["running"]
    add(worker, "tight", 100, ttft_s=1.5, admitted=True)
    add(worker, "other", ttft_s=9.0)
    assert admitted(worker, now=0.6) == []  # no seat is free
    worker.cancel(RequestId("running"))
    worker.cancel(RequestId("tight"))

    assert seats_in_turn(worker, now=0.6) == ["other"]


def test_batch_comes_after_interactive() -> None:
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "batch", ttft_s=0.5, priority=BATCH)
    add(worker, "late", 200, ttft_s=1.0)
    add(worker, "interactive")

    assert seats_in_turn(worker) == ["interactive", "late", "batch"]


def test_a_promised_stream_that_has_begun_comes_before_all_that_have_not() -> None:
    worker, _ = batcher(seats=1, profile=SLOW)
    add(worker, "urgent", ttft_s=0.2)
    assert worker.add(ask_for("begun", prompt(5), output=[1], tpot_s=0.1, handed_over=True), now=0) is None

    assert seats_in_turn(worker) == ["begun", "urgent"]


def test_who_was_set_back_stands_before_urgent_ones() -> None:
    worker, _ = batcher(blocks=6)
    for name, start in (("old", 0), ("young", 100)):
        worker.add(ask_for(name, prompt(9, start=start), most=6), now=0)
    order: list[str] = []
    while worker.snapshot().live:
        admitted(worker)
        order += [each.request for each in ran(worker, worker.next(now=0)) if each.finish]
        if worker.snapshot().preemptions == 1 and "urgent" not in worker.snapshot().live and len(order) == 0:
            add(worker, "urgent", 9, ttft_s=0.1)

    assert order == ["old", "young", "urgent"]


def test_a_large_urgent_one_that_does_not_fit_is_not_overtaken_by_a_small_one_that_is_due_later() -> None:
    worker, _ = batcher(blocks=10, profile=SLOW)
    add(worker, "first", 20)
    assert admitted(worker) == ["first"]
    add(worker, "large", 30, ttft_s=1.0)
    add(worker, "small", 2, ttft_s=5.0)

    assert admitted(worker) == []


PROMISED = st.tuples(
    st.sampled_from([inf, -1.0, 0.05, 0.5, 1.0, 5.0]), st.integers(1, 60), st.sampled_from(Priority), st.integers(0, 9)
)


@given(st.lists(PROMISED, max_size=40), st.integers(1, 3), st.integers(0, 2**32))
def test_nobody_is_passed_over_more_often_than_the_bound(
    wants: list[tuple[float, int, Priority, int]], burst: int, seed: int
) -> None:
    """Whoever has waited longest sits down within nine turns; while others, ever more urgent, keep coming."""
    worker, _ = batcher(blocks=100, seats=1, waiting=1000, profile=SLOW)
    random, waiting, passed, now = Random(seed), list[str](), 0, 0.0
    for number, (ttft_s, tokens, priority, _) in enumerate(wants):
        add(worker, f"r{number}", tokens, ttft_s=ttft_s, priority=priority)
        waiting.append(f"r{number}")
    for turn in range(6 * len(wants)):
        now += random.random()
        for number in range(burst if turn < 3 * len(wants) else 0):
            add(worker, f"u{turn}.{number}", 1, ttft_s=0.02, now=now)
            waiting.append(f"u{turn}.{number}")
        for name in admitted(worker, now=now):
            passed = 0 if name == waiting[0] else passed + 1
            assert passed <= MOST_PASSED
            waiting.remove(name)
            worker.cancel(name)  # type: ignore[arg-type]


BETWEEN = st.integers(0, 300).map(lambda hundredths: (hundredths + 0.5) / 100)
"""Times at which nobody's slack is nearly nothing: deadlines and prefills take whole hundredths of a second."""


@given(st.lists(PROMISED, min_size=1, max_size=20), BETWEEN)
def test_the_order_is_that_of_deadlines_among_those_in_time(
    wants: list[tuple[float, int, Priority, int]], now: float
) -> None:
    worker, _ = batcher(blocks=100, seats=1, waiting=1000, profile=SLOW)
    rank: dict[str, tuple[bool, bool, float, int]] = {}
    for number, (ttft_s, tokens, priority, _) in enumerate(wants[:MOST_PASSED]):
        add(worker, f"r{number}", tokens, ttft_s=ttft_s, priority=priority)
        late = ttft_s - now - SLOW.prefill_s[1] * tokens < 0.0
        rank[f"r{number}"] = (priority is BATCH, late, 0.0 if late else ttft_s, number)

    assert seats_in_turn(worker, now=now) == sorted(rank, key=rank.__getitem__)


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=30))
def test_with_no_promises_the_order_is_that_of_arrival(wants: list[tuple[int, bool]]) -> None:
    """Whether a prefill for another worker, or a stream with tokens out that comes from one."""
    worker, _ = batcher(blocks=100, seats=1, waiting=1000, profile=SLOW)
    for number, (tokens, begun) in enumerate(wants):
        output = [7] if begun else []
        running = ask_for(f"r{number}", prompt(tokens), output=output, handed_over=begun, hand_over=not begun)
        assert worker.add(running, now=number) is None

    assert seats_in_turn(worker, now=99.0) == [f"r{number}" for number in range(len(wants))]


# -- chunks -----------------------------------------------------------------------------------------------------------


def prefilled(worker: Batcher, *, now: float = 0.0) -> list[tuple[str, int]]:
    """Who gets how much of the next step."""
    batch = worker.next(now=now)
    assert batch is not None
    pieces = [(piece.request, len(piece.tokens)) for piece in batch.slices]
    ran(worker, batch, now=now)
    return [(str(name), tokens) for name, tokens in pieces]


def test_an_urgent_short_prompt_overtakes_what_is_left_of_a_long_one() -> None:
    worker, _ = batcher(tokens=12, profile=SLOW, step_s=10.0)
    add(worker, "long", 40, ttft_s=9.0)
    admitted(worker)
    assert prefilled(worker) == [("long", 12)]
    worker.add(ask_for("short", prompt(5, start=100), ttft_s=0.5, hand_over=True), now=0)
    admitted(worker)

    assert prefilled(worker) == [("short", 5), ("long", 4)]


def test_a_long_prompt_that_is_due_before_is_not_overtaken() -> None:
    worker, _ = batcher(tokens=12, profile=SLOW, step_s=10.0)
    add(worker, "long", 40, ttft_s=0.5)
    admitted(worker)
    worker.add(ask_for("short", prompt(5, start=100), ttft_s=0.6), now=0)
    admitted(worker)

    assert prefilled(worker) == [("long", 12)]


def test_a_prompt_that_will_be_late_lets_others_go_first_but_not_for_ever() -> None:
    worker, _ = batcher(blocks=1000, step_s=0.04, profile=SLOW)
    add(worker, "late", 200, ttft_s=0.1)
    served = []
    for turn in range(4 * (MOST_PASSED + 1)):
        urgent = ask_for(f"u{turn}", prompt(SIZE, start=300 + turn), ttft_s=1.0, hand_over=True)
        assert worker.add(urgent, now=turn) is None
        admitted(worker, now=turn)
        served += [name for name, _ in prefilled(worker, now=turn)]

    assert [turn for turn, name in enumerate(served) if name == "late"] == [8, 17, 26, 35]


@given(st.lists(st.tuples(st.integers(2, 40), st.booleans()), min_size=1, max_size=8), st.integers(1, 40))
def test_with_no_promises_chunks_go_to_the_oldest_first(wants: list[tuple[int, bool]], tokens: int) -> None:
    worker, _ = batcher(blocks=200, tokens=tokens, profile=SLOW)
    for number, (length, hand_over) in enumerate(wants):
        running = ask_for(f"r{number}", prompt(length, start=50 * number), hand_over=hand_over, most=1)
        assert worker.add(running, now=0) is None
    admitted(worker)

    served = []
    while worker.snapshot().live:
        served += [int(name[1:]) for name, _ in prefilled(worker)]
    assert served == sorted(served)


def test_a_sequence_knows_how_long_it_could_still_stand() -> None:
    running: Running = ask_for("a", prompt(30), ttft_s=2.0)
    running.came(0, SLOW, now=10.0)

    assert running.starts_by_s == 10.0 + 2.0 - 0.3
    assert running.standing(SLOW, now=11.0) == (False, running.turn)
    assert running.standing(SLOW, now=11.8) == (True, 0.0)


def test_an_admitted_sequence_stands_by_a_later_deadline_once_it_is_late() -> None:
    running: Running = ask_for("a", prompt(30), ttft_s=2.0, admitted=True)
    running.came(0, SLOW, now=10.0)

    assert running.standing(SLOW, now=11.8) == (False, 12.5 // 0.1)
    assert running.standing(SLOW, now=12.4) == (True, 0.0)
