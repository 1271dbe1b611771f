"""What is said to who would be late, at the extremes, too."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.admission import BATCH_LOAD, FAIR_LOAD, Loads, Refused
from scheduler.refusals import sentence, told
from scheduler.vocabulary import Ask, Priority, Promise
from tests.scheduler.build import ask

A_TIME = re.compile(r"(\d+(?:\.\d+)?) (ms|s|min|h)\b")
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def said(why: Refused, loads: Loads, promise: Promise, asked: Ask | None = None, *, most: float = 1.0) -> str:
    return sentence(why, asked or ask(), loads, most, promise, ttft_s=45.0, queue_s=30.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (1e-6, "0.001 ms"),
        (0.0125, "12.5 ms"),
        (0.9996, "1 s"),
        (1.284, "1.28 s"),
        (59.99, "60 s"),
        (599.9, "10 min"),
        (7199.0, "2 h"),
        (1e6, "278 h"),
        (1e9, "278000 h"),
    ],
)
def test_times_are_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert told(seconds) == words


def test_a_refusal_gives_the_two_times_that_it_compared() -> None:
    promise = Promise(0.05, 0.03)
    assert said(Refused.LATE, Loads(25.68, 0), promise) == "first token predicted in 1.28 s, promised within 50 ms"
    assert said(Refused.SLOW, Loads(0, 1.5), promise) == "a token predicted every 45 ms, promised every 30 ms"
    assert said(Refused.WAITS, Loads(0, 0), promise) == (
        "first token predicted in 45 s, and nobody waits longer than 30 s here"
    )


def test_what_a_request_wants_itself_was_asked_for_and_not_promised() -> None:
    hurried = replace(ask(), ttft_slo_s=0.05, tpot_slo_s=0.001)
    promise = Promise(2.0, 0.03).to(hurried)
    assert "asked for within 50 ms" in said(Refused.LATE, Loads(2, 0), promise, hurried)
    assert "asked for every 1 ms" in said(Refused.SLOW, Loads(0, 2), promise, hurried)


def test_who_is_refused_below_the_promise_is_told_why() -> None:
    batch = replace(ask(), priority=Priority.BATCH)
    assert said(Refused.LATE, Loads(0.9, 0), Promise(2.0), batch, most=BATCH_LOAD) == (
        "first token predicted in 1.8 s, promised within 2 s, and batch requests are taken up to 1.36 s"
    )
    assert said(Refused.SLOW, Loads(0, 0.9), Promise(2.0, 0.02), most=FAIR_LOAD) == (
        "a token predicted every 18 ms, promised every 20 ms, and tenants over their share are taken up to 14 ms"
    )
    assert said(Refused.LATE, Loads(0.9, 0), Promise(2.0)) == (
        "first token predicted in 1.8 s, promised within 2 s, and taken where it is predicted within 1.7 s"
    )
    assert "tenants over" in said(Refused.LATE, Loads(0.9, 0), Promise(2.0), batch, most=FAIR_LOAD)


@given(st.floats(1e-6, 1e6), st.floats(1.0, 1e6, exclude_min=True), st.sampled_from([Refused.LATE, Refused.SLOW]))
def test_predicted_is_always_told_as_more_than_promised_without_an_exponent(
    promised_s: float, load: float, why: Refused
) -> None:
    clause = said(why, Loads(load, load), Promise(promised_s, promised_s))
    predicted, promised = (float(number) * UNITS[unit] for number, unit in A_TIME.findall(clause))
    assert predicted > promised or load < 1.0001
    assert "e+" not in clause
    assert "e-" not in clause
    assert len(clause) < 120
