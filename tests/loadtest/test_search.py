"""The search for the highest rate that holds, and what pairs of runs say."""

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.paired import FEWEST, Verdict, paired
from loadtest.search import Certainty, Search, Tried


def search(
    *,
    target: float = 0.9,
    lowest: float = 1.0,
    highest: float = 64.0,
    tolerance: float = 0.1,
    repeats: int = 2,
    most: int = 50,
) -> Search:
    return Search(target=target, lowest=lowest, highest=highest, tolerance=tolerance, repeats=repeats, most=most)


def run(search: Search, border: float, *, judged: int = 1_000) -> list[float]:
    """Up to the border everything is good, beyond it nothing."""
    asked = []
    while (rate := search.next()) is not None:
        asked.append(rate)
        search.told(rate, judged if rate <= border else 0, judged)
    return asked


def test_rates_double_then_the_border_is_halved_then_both_sides_are_tried_again() -> None:
    asked = run(search(tolerance=0.5), border=5.0)
    assert asked == pytest.approx([1.0, 2.0, 4.0, 8.0, 32.0**0.5, 4.0, 32.0**0.5])


@given(border=st.floats(1.0, 60.0), tolerance=st.floats(0.01, 0.5), repeats=st.integers(1, 4))
def test_without_noise_the_border_is_found_and_clear(border: float, tolerance: float, repeats: int) -> None:
    found = search(tolerance=tolerance, repeats=repeats)
    asked = run(found, border)
    answer = found.answer()
    assert answer.low is not None
    assert answer.high is not None
    assert answer.low.rate <= border < answer.high.rate
    assert answer.high.rate <= (1.0 + tolerance) * answer.low.rate * (1 + 1e-9)
    assert len(answer.low.runs) >= repeats
    assert len(answer.high.runs) >= repeats
    assert answer.certainty is (Certainty.SINGLE if repeats == 1 else Certainty.CLEAR)
    assert len(asked) <= 7 + 8 + 2 * repeats  # doublings to 64, halvings of one octave, the two sides again


@given(seed=st.integers(0, 1_000), noise=st.floats(0.0, 0.4), most=st.integers(1, 40), repeats=st.integers(1, 3))
def test_with_noise_it_ends_and_says_nothing_that_its_runs_do_not(
    seed: int, noise: float, most: int, repeats: int
) -> None:
    chance = Random(seed)
    found = search(most=most, repeats=repeats)
    asked = []
    while (rate := found.next()) is not None:
        asked.append(rate)
        share = min(1.0, max(0.0, 1.4 - rate / 20.0 + chance.uniform(-noise, noise)))
        found.told(rate, round(200 * share), 200)
    assert len(asked) <= most
    assert all(1.0 <= rate <= 64.0 for rate in asked)
    answer = found.answer()
    verdicts = {tried.rate: found.holds(tried) for tried in found.tried}
    failing = [rate for rate, held in verdicts.items() if not held]
    assert (answer.high.rate if answer.high else None) == min(failing, default=None)
    if answer.low:
        assert all(held for rate, held in verdicts.items() if rate <= answer.low.rate)
    if answer.certainty is not Certainty.UNFINISHED:
        assert all(len(side.runs) >= repeats for side in (answer.low, answer.high) if side)


def test_a_lowest_rate_that_fails_is_tried_again_and_told() -> None:
    found = search(repeats=3)
    assert run(found, border=0.5) == [1.0, 1.0, 1.0]
    assert (found.answer().low, found.answer().certainty) == (None, Certainty.CLEAR)


def test_a_highest_rate_that_holds_is_the_answer() -> None:
    found = search(highest=5.0)
    assert run(found, border=100.0) == [1.0, 2.0, 4.0, 5.0, 5.0]
    answer = found.answer()
    assert answer.low is not None
    assert (answer.low.rate, answer.high) == (5.0, None)


def test_a_verdict_that_a_second_run_turns_sends_the_search_on() -> None:
    """Bad luck at 2: alone it fails, with its second run it holds."""
    found = search(highest=4.0, tolerance=1.0)
    found.told(1.0, 100, 100)
    found.told(2.0, 85, 100)
    assert found.next() == 1.0
    found.told(1.0, 100, 100)
    assert found.next() == 2.0
    found.told(2.0, 99, 100)
    assert found.next() == 4.0


def test_a_border_that_runs_disagree_about_is_close() -> None:
    found = search(highest=1.0)
    found.told(1.0, 85, 100)
    found.told(1.0, 99, 100)
    assert found.answer().certainty is Certainty.CLOSE


def test_an_interval_holds_its_share_and_narrows_with_requests() -> None:
    few, many = Tried(1.0, [(9, 10)]), Tried(1.0, [(900, 1_000)])
    assert few.interval == pytest.approx((0.5958, 0.9821), abs=1e-3)  # Wilson's, from published tables
    assert few.interval[0] < many.interval[0] < 0.9 < many.interval[1] < few.interval[1]
    assert Tried(1.0, [(0, 0)]).share == 0.0


def test_pairs_that_all_agree_differ() -> None:
    found = paired([(1.0, 1.1 + 0.01 * place) for place in range(6)])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((1.1, 1.15))
    assert found.coverage == pytest.approx(1 - 2 * 0.5**6)
    assert found.verdict is Verdict.HIGHER


def test_fewer_pairs_than_six_cannot_tell() -> None:
    found = paired([(1.0, 2.0)] * (FEWEST - 1))
    assert found is not None
    assert (found.ratio, found.verdict) == (2.0, Verdict.FEW)


def test_pairs_that_disagree_are_within_noise() -> None:
    found = paired([(1.0, 0.5)] * 3 + [(1.0, 1.5)] * 3)
    assert found is not None
    assert found.verdict is Verdict.NOISE


def test_equal_measurements_are_no_difference() -> None:
    found = paired([(2.0, 2.0)] * 8)
    assert found is not None
    assert found.verdict is Verdict.NOISE


def test_something_is_more_than_nothing_and_nothing_is_as_much_as_nothing() -> None:
    found = paired([(0.0, 1.0)] * 6)
    assert found is not None
    assert (found.ratio, found.low, found.verdict) == (inf, inf, Verdict.HIGHER)
    found = paired([(0.0, 0.0)] * 6)
    assert found is not None
    assert (found.ratio, found.verdict) == (1.0, Verdict.NOISE)
    assert paired([]) is None


@given(st.lists(st.tuples(st.floats(0.1, 10.0), st.floats(0.1, 10.0)), min_size=1, max_size=30))
def test_an_interval_surrounds_the_median_and_turning_the_pairs_turns_the_verdict(
    pairs: list[tuple[float, float]],
) -> None:
    found, turned = paired(pairs), paired([(b, a) for a, b in pairs])
    assert found is not None
    assert turned is not None
    if found.low is None or found.high is None:
        assert len(pairs) < FEWEST
        return
    assert found.low <= found.ratio <= found.high
    opposite = {Verdict.HIGHER: Verdict.LOWER, Verdict.LOWER: Verdict.HIGHER}
    assert turned.verdict is opposite.get(found.verdict, found.verdict)


def test_chance_alone_seldom_differs() -> None:
    """Of twice the same thing, at most one comparison in 20 is told to differ; with six pairs 3 %."""
    chance = Random(5)
    wrong = 0
    for _ in range(2_000):
        found = paired([(chance.lognormvariate(0, 0.3), chance.lognormvariate(0, 0.3)) for _ in range(6)])
        assert found is not None
        wrong += found.verdict is not Verdict.NOISE
    assert 0.02 < wrong / 2_000 < 0.045
