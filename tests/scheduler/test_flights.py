"""The batches of the near future, from what was placed."""

from math import inf

import numpy as np
import pytest

from scheduler.flights import Flights
from scheduler.vocabulary import RequestId


def test_whose_prefill_ends_after_ours_is_in_our_batch_too() -> None:
    """Who looked at the hand-over alone would promise one room to everybody who is under way."""
    flights = Flights()
    for number in range(3):
        flights.placed(RequestId(f"{number}"), 0, 100, begins_s=5.0, told=False)
    promised = np.array([3.0]), np.array([300.0])
    at_handover = flights.batches(*promised, at_s=1.0, lasts_s=10.0, now=0.0)
    worst = flights.worst(*promised, from_s=1.0, lasts_s=10.0, now=0.0)

    assert at_handover.sequences[0] == 0.0
    assert worst.sequences[0] == pytest.approx(3 * np.exp(-0.1))
    assert worst.kv_tokens[0] == pytest.approx(300 * np.exp(-0.1))


def test_a_decode_that_has_gone_on_for_ten_minutes_without_a_word_is_forgotten() -> None:
    flights = Flights()
    flights.placed(RequestId("x"), 0, 100, begins_s=0.0, told=False)
    flights.expire(now=599.0)
    assert flights.worker(RequestId("x")) == 0
    flights.expire(now=601.0)
    assert flights.worker(RequestId("x")) == -1


def test_whose_prefill_takes_longer_than_predicted_has_not_begun_and_may_at_any_moment() -> None:
    """Two seats and their KV are promised; the one that nobody tells of began on time."""
    flights, promised = Flights(), (np.array([2.0]), np.array([300.0]))
    flights.placed(RequestId("late"), 0, 100, begins_s=5.0, told=True)
    flights.placed(RequestId("inline"), 0, 100, begins_s=5.0, told=False)
    now = flights.batches(*promised, at_s=9.0, lasts_s=10.0, now=9.0)
    soon = flights.batches(*promised, at_s=9.001, lasts_s=10.0, now=9.0)

    assert (now.sequences[0], now.kv_tokens[0]) == (1.0, 200.0)
    assert soon.sequences[0] == pytest.approx(2.0, abs=0.001)
    assert flights.lasts_s(0.0, now=9.0) == pytest.approx(4.0 / 20.0)
    flights.begun(RequestId("late"), now=9.0)
    assert flights.batches(*promised, at_s=9.0, lasts_s=10.0, now=9.0).sequences[0] == 2.0


def test_the_kv_of_those_that_wait_for_room_is_counted_though_workers_report_only_what_runs() -> None:
    flights = Flights()
    flights.placed(RequestId("x"), 0, 700, begins_s=0.0, told=False)

    there = flights.batches(np.array([1.0]), np.array([100.0]), at_s=1.0, lasts_s=inf, now=1.0)

    assert there.kv_tokens[0] == 700.0


def test_only_who_finishes_says_how_long_decodes_last() -> None:
    flights = Flights()
    for number in range(40):
        flights.placed(RequestId(f"{number}"), 0, 100, begins_s=0.0, told=False)
        flights.ended(RequestId(f"{number}"), finished=number % 2 == 0, now=1.0)

    assert flights.lasts_s(1.0, now=1.0) == pytest.approx(1.0, rel=0.01)
    assert flights.lasts_s(3.0, now=1.0) == pytest.approx((20 + 20 * 3) / 40, rel=0.02)
