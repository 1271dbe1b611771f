"""The batches of the near future, from what was placed."""

import numpy as np
import pytest

from scheduler.flights import Flights
from scheduler.vocabulary import RequestId


def test_whose_prefill_ends_after_ours_is_in_our_batch_too() -> None:
    """Who looked at the hand-over alone would promise one room to everybody who is under way."""
    flights = Flights()
    for number in range(3):
        flights.placed(RequestId(f"{number}"), 0, 100, begins_s=5.0)
    promised = np.array([3.0]), np.array([300.0])
    at_handover = flights.batches(*promised, at_s=1.0, lasts_s=10.0, now=0.0)
    worst = flights.worst(*promised, from_s=1.0, lasts_s=10.0, now=0.0)

    assert at_handover.sequences[0] == 0.0
    assert worst.sequences[0] == pytest.approx(3 * np.exp(-0.1))
    assert worst.kv_tokens[0] == pytest.approx(300 * np.exp(-0.1))


def test_a_decode_that_has_gone_on_for_ten_minutes_without_a_word_is_forgotten() -> None:
    flights = Flights()
    flights.placed(RequestId("x"), 0, 100, begins_s=0.0)
    flights.expire(now=599.0)
    assert flights.worker(RequestId("x")) == 0
    flights.expire(now=601.0)
    assert flights.worker(RequestId("x")) == -1
