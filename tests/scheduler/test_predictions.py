"""Predictions beside what happened: the mean that clients are told, the bound that admission reckons with."""

from math import inf
from random import Random

import pytest

from scheduler.predictions import SURE_TPOT, SURE_TTFT, WIDEST, Predictions
from scheduler.vocabulary import Measured, Promise, RequestId

PROMISE = Promise(ttft_s=2.0, tpot_s=0.05)


def happened(predictions: Predictions, ratio: float, *, ttft_s: float = 2.0, promise: Promise = PROMISE) -> None:
    predictions.predicted(RequestId("r"), promise, ttft_s=ttft_s, tpot_s=0.05)
    predictions.happened(RequestId("r"), Measured(ratio * ttft_s, ratio * 0.05))


def test_nothing_is_corrected_before_anything_is_known() -> None:
    predictions = Predictions()

    assert (predictions.ttft_factor, predictions.ttft_bound, predictions.tpot_bound) == (1.0, 1.0, 1.0)


def test_what_is_told_is_the_mean_and_what_is_reckoned_with_is_what_most_stay_below() -> None:
    predictions, chance = Predictions(), Random(1)
    for _ in range(2000):
        happened(predictions, chance.lognormvariate(0.0, 0.2))

    assert predictions.ttft_factor == pytest.approx(1.0, abs=0.07)
    assert predictions.ttft_bound == pytest.approx(1.46, abs=0.12)  # exp(1.88 * 0.2): 97 of a hundred are below
    assert predictions.tpot_bound == pytest.approx(1.18, abs=0.06)  # exp(0.84 * 0.2): four of five
    for bound, sure in ((predictions.ttft_bound, SURE_TTFT), (predictions.tpot_bound, SURE_TPOT)):
        below = sum(chance.lognormvariate(0.0, 0.2) < bound for _ in range(2000)) / 2000
        assert below == pytest.approx(sure, abs=0.08)


def test_who_was_nowhere_near_its_promise_says_little_about_those_who_are() -> None:
    """Short waits are told badly and nobody minds; long ones well."""
    predictions, chance = Predictions(), Random(2)
    for _ in range(300):
        for _ in range(5):
            happened(predictions, chance.choice([0.6, 1.66]), ttft_s=0.2)
        happened(predictions, chance.choice([0.97, 1.03]), ttft_s=1.9)

    assert predictions.ttft_bound < 1.15


def test_one_that_is_far_off_moves_a_bound_no_more_than_one_that_is_a_little_off() -> None:
    little, far = Predictions(), Predictions()
    for _ in range(50):
        happened(little, 1.0)
        happened(far, 1.0)
    happened(little, 1.1)
    happened(far, 50.0)

    assert far.tpot_bound / far.tpot_factor <= little.tpot_bound / little.tpot_factor


def test_a_bad_minute_is_forgotten_though_hardly_anybody_is_taken_after_it() -> None:
    """Whoever is still taken is near the tightened limit, and so counts."""
    predictions = Predictions()
    for _ in range(100):
        happened(predictions, 10.0)
    assert predictions.ttft_bound > 3.0
    for _ in range(1500):
        longest_s = PROMISE.ttft_s / predictions.ttft_bound
        happened(predictions, 1.0, ttft_s=0.95 * longest_s)

    assert predictions.ttft_bound < 1.05


def test_a_bound_is_no_less_than_the_mean_and_not_far_above_it() -> None:
    predictions, chance = Predictions(), Random(3)
    for _ in range(500):
        happened(predictions, chance.choice([0.1, 0.5, 1.0, 3.0, 9.0]), ttft_s=chance.uniform(0.1, 2.0))
        assert predictions.ttft_factor <= predictions.ttft_bound <= WIDEST * predictions.ttft_factor


def test_where_nothing_is_promised_everybody_counts() -> None:
    predictions = Predictions()
    for _ in range(200):
        happened(predictions, 1.5, promise=Promise(inf, inf))

    assert predictions.ttft_bound == pytest.approx(1.5, rel=0.05)


def test_a_decode_that_is_judged_again_is_compared_with_the_later_judgement() -> None:
    predictions = Predictions()
    for _ in range(200):
        predictions.predicted(RequestId("r"), PROMISE, ttft_s=1.0, tpot_s=0.10)
        predictions.again(RequestId("r"), tpot_s=0.04)
        predictions.happened(RequestId("r"), Measured(1.0, 0.04))

    assert predictions.tpot_factor == pytest.approx(1.0)
    assert predictions.kept[-1].tpot_s == 0.04
    predictions.again(RequestId("gone"), tpot_s=1.0)  # its end came first
