"""How long a gateway leaves out workers that it could not use."""

from scheduler.vocabulary import WorkerId
from services.gateway.breakers import FIRST_S, FORGOTTEN_S, LONGEST_S, MOST_REASONS, PROBE_S, Breakers

D, E = WorkerId("d"), WorkerId("e")


def test_a_worker_that_could_not_be_used_is_left_out_and_tried_again() -> None:
    breakers = Breakers()
    breakers.failed(D, "its certificate has expired", now=0.0)
    assert breakers.left_out(now=0.9 * FIRST_S) == {D}
    assert breakers.left_out(now=FIRST_S) == frozenset()


def test_one_request_a_second_tries_it() -> None:
    breakers = Breakers()
    breakers.failed(D, "no", now=0.0)
    tried = [at for at in range(100) if D not in breakers.left_out(now=FIRST_S + at * PROBE_S / 10)]
    assert tried == list(range(0, 100, 10))


def test_pauses_double_up_to_the_longest() -> None:
    breakers, now, pauses = Breakers(), 0.0, []
    for _ in range(8):
        breakers.failed(D, "no", now=now)
        (known,) = breakers.unusable(now=now)
        pauses.append(known.until - now)
        now = known.until
    assert pauses == [FIRST_S, 2.0, 4.0, 8.0, 16.0, LONGEST_S, LONGEST_S, LONGEST_S]


def test_requests_that_were_placed_before_it_was_left_out_do_not_lengthen_the_pause() -> None:
    breakers = Breakers()
    for _ in range(20):
        breakers.failed(D, "no", now=0.0)
    assert breakers.left_out(now=FIRST_S) == frozenset()


def test_one_that_works_again_is_left_out_no_more_and_begins_anew() -> None:
    breakers = Breakers()
    breakers.failed(D, "no", now=0.0)
    breakers.failed(D, "no", now=1.0)
    assert breakers.worked(D)
    assert not breakers.worked(D)
    assert breakers.left_out(now=1.0) == frozenset()
    breakers.failed(D, "no", now=2.0)
    assert breakers.left_out(now=2.0 + FIRST_S) == frozenset()


def test_each_worker_and_reason_is_news_once() -> None:
    breakers = Breakers()
    told = [
        breakers.failed(worker, because, now=0.0)
        for worker, because in [(D, "a"), (D, "a"), (E, "a"), (D, "b"), (D, "a"), (E, "a")]
    ]
    assert told == [True, False, True, True, False, False]


def test_what_says_something_else_each_time_is_news_a_few_times() -> None:
    breakers = Breakers()
    assert sum(breakers.failed(D, f"call {number} failed", now=0.0) for number in range(100)) == MOST_REASONS


def test_one_that_was_not_tried_for_long_is_forgotten() -> None:
    breakers = Breakers()
    breakers.failed(D, "no", now=0.0)
    assert [known.worker for known in breakers.unusable(now=FORGOTTEN_S)] == [D]
    assert breakers.unusable(now=FORGOTTEN_S + 0.1) == []
