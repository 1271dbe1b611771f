"""What work costs, and what a profile learns from measurements."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import estimate
from scheduler.budget import Budget
from scheduler.estimate import FREE, PrefillSample, StepSample, TransferSample
from scheduler.vocabulary import Profile

costs = st.floats(1e-9, 1e-2)
profiles = st.builds(
    Profile,
    prefill_s=st.tuples(costs, costs, st.floats(0, 1e-6)),
    step_s=st.tuples(costs, costs, costs),
    transfer_s=st.tuples(costs, costs),
)
KNOWN = Profile(prefill_s=(0.004, 6e-4, 3e-8), step_s=(0.01, 7e-4, 2e-6), transfer_s=(1e-4, 1e-10))


def test_a_cached_prefix_saves_its_linear_and_its_quadratic_part() -> None:
    assert estimate.prefill_s(KNOWN, 1000, 600) == pytest.approx(0.004 + 6e-4 * 400 + 3e-8 * (1000**2 - 600**2))


@given(profiles, *4 * (st.integers(0, 200_000),))
def test_every_estimate_is_at_least_0_and_more_of_anything_never_costs_less(
    profile: Profile, cached: int, some: int, more: int, sequences: int
) -> None:
    tokens = cached + some
    assert 0.0 <= estimate.prefill_s(profile, tokens, cached) <= estimate.prefill_s(profile, tokens + more, cached)
    assert estimate.prefill_s(profile, tokens, cached) <= estimate.prefill_s(profile, tokens, 0)
    assert 0.0 <= estimate.step_s(profile, sequences, tokens) <= estimate.step_s(profile, sequences, tokens + more)
    assert estimate.step_s(profile, sequences, tokens) <= estimate.step_s(profile, sequences + more, tokens)
    assert 0.0 <= estimate.transfer_s(profile, tokens) <= estimate.transfer_s(profile, tokens + more)


@given(profiles, st.integers(0, 5000), st.floats(1e-6, 10))
def test_a_chunk_takes_all_the_time_there_is_and_no_more(profile: Profile, start: int, spare_s: float) -> None:
    end = estimate.chunk_end(profile, start, spare_s)

    linear, square = profile.prefill_s[1:]
    assert linear * (end - start) + square * (end**2 - start**2) == pytest.approx(spare_s, rel=1e-3)


def test_a_chunk_of_free_tokens_never_ends_and_one_without_time_never_starts() -> None:
    assert estimate.chunk_end(FREE, 128, 0.1) == inf
    assert estimate.chunk_end(KNOWN, 128, 0.0) == 128
    assert estimate.chunk_end(KNOWN, 128, -1.0) == 128


@given(profiles, st.integers(0, 40), st.integers(1, 3000), st.integers(1, 4096), st.floats(0.01, 1))
def test_a_budget_cuts_at_blocks_or_at_the_end(
    profile: Profile, block: int, more: int, tokens: int, seconds: float
) -> None:
    start = 64 * block
    end = Budget(tokens, seconds, profile, 64).chunk_end(start, start + more)

    assert start <= end <= min(start + more, start + tokens)
    assert end == start + more or end % 64 == 0


def test_measurements_of_a_known_machine_give_its_profile_back() -> None:
    fitted = estimate.fit_profile(
        [PrefillSample(n, p, estimate.prefill_s(KNOWN, n, p)) for n in (128, 512, 1024, 2048) for p in (0, 64)],
        [StepSample(b, kv, estimate.step_s(KNOWN, b, kv)) for b in (1, 8, 16) for kv in (64, 1024, 9600)],
        [TransferSample(size, estimate.transfer_s(KNOWN, size)) for size in (10**5, 10**6, 10**7)],
    )

    assert fitted.prefill_s == pytest.approx(KNOWN.prefill_s, rel=1e-6)
    assert fitted.step_s == pytest.approx(KNOWN.step_s, rel=1e-6)
    assert fitted.transfer_s == pytest.approx(KNOWN.transfer_s, rel=1e-6)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 10_000), st.floats(1e-3, 1)), min_size=1, max_size=20))
def test_a_fit_is_never_negative_and_no_worse_than_a_constant(rows: list[tuple[int, int, float]]) -> None:
    coefficients = estimate.fit([(1.0, b, kv) for b, kv, _ in rows], [seconds for *_, seconds in rows], 3)

    def error(base: float, each: float, token: float) -> float:
        return sum(((base + each * b + token * kv) / seconds - 1) ** 2 for b, kv, seconds in rows)

    weights = [1 / seconds for *_, seconds in rows]
    constant = sum(weights) / sum(weight * weight for weight in weights)
    assert min(coefficients) >= 0
    assert error(*coefficients) <= error(constant, 0, 0) + 1e-9


def test_more_context_that_seems_to_cost_less_costs_nothing() -> None:
    base, each, token = estimate.fit([(1, 1, 100), (1, 1, 200), (1, 1, 300)], [0.03, 0.02, 0.01], 3)

    assert token == 0.0
    assert base + each > 0.0


def test_what_was_not_measured_costs_nothing() -> None:
    assert estimate.fit_profile([], []) == FREE
