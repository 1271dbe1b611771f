"""A profile follows what happens: soon enough, not at once, and never below nothing."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import estimate
from scheduler.batch import Batch, Slice
from scheduler.correction import LATELY_S, Correction
from scheduler.estimate import FREE
from scheduler.vocabulary import Profile, RequestId
from tests.scheduler.build import CPU


def times(profile: Profile, factor: float) -> Profile:
    base, linear, square = (factor * value for value in profile.prefill_s)
    one, each, token = (factor * value for value in profile.step_s)
    return Profile((base, linear, square), (one, each, token), profile.transfer_s)


def ran(correction: Correction, truth: Profile, steps: int, *, seed: int = 1, noise: float = 0.05) -> None:
    """As many prefills and decode steps of all sizes, as that profile would have them, give or take."""
    rng = Random(seed)
    for _ in range(steps):
        start, tokens = 64 * rng.randrange(60), 64 * rng.randrange(1, 16)
        seconds = estimate.prefill_s(truth, start + tokens, start)
        correction.prefilled([(start, start + tokens)], seconds * rng.uniform(1 - noise, 1 + noise))
        sequences = rng.randrange(1, 16)
        kv_tokens = sequences * rng.randrange(50, 4000)
        correction.stepped(
            sequences, kv_tokens, estimate.step_s(truth, sequences, kv_tokens) * rng.uniform(1 - noise, 1 + noise)
        )


def prefill(profile: Profile) -> list[float]:
    return [estimate.prefill_s(profile, tokens, cached) for tokens, cached in ((512, 0), (2000, 0), (3000, 2000))]


def step(profile: Profile) -> list[float]:
    return [estimate.step_s(profile, sequences, kv) for sequences, kv in ((1, 500), (8, 4000), (16, 40_000))]


def test_a_prompt_in_chunks_is_predicted_to_take_what_its_chunks_take() -> None:
    """Each of them costs a pass over the weights, a fifth of it here, and the whole is predicted as one."""
    truth = Profile((0.02, 0.0008, 0.0), (0.02, 0.0, 0.0), (0.0, 0.0))
    correction = Correction(truth)
    for _ in range(30):
        for start in range(0, 1280, 128):
            seconds = estimate.prefill_s(truth, start + 128, start)
            correction.prefilled([(start, start + 128)], seconds, ended=start == 1280 - 128)

    whole_s = 10 * estimate.prefill_s(truth, 128)
    assert estimate.prefill_s(truth, 1280) < 0.9 * whole_s
    assert estimate.prefill_s(correction.profile(), 1280) == pytest.approx(whole_s, rel=0.03)


def test_a_prefill_worker_that_became_a_third_slower_is_known_for_it_within_seconds() -> None:
    correction, truth = Correction(CPU), times(CPU, 1.33)
    ran(correction, truth, 40)

    assert prefill(correction.profile()) == pytest.approx(prefill(truth), rel=0.05)


def test_nothing_measured_changes_nothing() -> None:
    assert Correction(CPU).profile() == CPU


def test_a_machine_that_became_slower_is_found_out() -> None:
    correction, truth = Correction(CPU), times(CPU, 2.0)
    ran(correction, truth, 2000)

    assert prefill(correction.profile()) == pytest.approx(prefill(truth), rel=0.1)
    assert step(correction.profile()) == pytest.approx(step(truth), rel=0.1)


def test_a_few_samples_move_it_a_little() -> None:
    correction = Correction(CPU)
    ran(correction, times(CPU, 2.0), 4)

    for now, before in zip(prefill(correction.profile()), prefill(CPU), strict=True):
        assert before < now < 1.5 * before


def test_what_was_long_ago_is_forgotten() -> None:
    correction = Correction(CPU)
    ran(correction, times(CPU, 3.0), 1000)
    ran(correction, CPU, 3000)

    assert step(correction.profile()) == pytest.approx(step(CPU), rel=0.1)


def test_the_same_batch_for_hours_does_not_unlearn_the_others() -> None:
    """Where plain recursive least squares winds up: nothing new comes in any direction but one."""
    correction = Correction(CPU)
    for _ in range(20_000):
        correction.stepped(4, 4000, estimate.step_s(CPU, 4, 4000))

    assert step(correction.profile()) == pytest.approx(step(CPU), rel=0.02)


def test_a_step_that_stalled_hardly_counts() -> None:
    correction, seconds = Correction(CPU), estimate.step_s(CPU, 8, 4000)
    for number in range(500):
        correction.stepped(8, 4000, 100 * seconds if number % 20 == 0 else seconds)

    assert estimate.step_s(correction.profile(), 8, 4000) == pytest.approx(seconds, rel=0.1)


def test_without_a_profile_it_waits_for_samples_enough() -> None:
    correction = Correction(FREE)
    ran(correction, CPU, 9)
    assert correction.profile() == FREE
    ran(correction, CPU, 500)
    assert step(correction.profile()) == pytest.approx(step(CPU), rel=0.1)


samples = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(1, 2048), st.integers(1, 64), st.floats(0, 100)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(samples)
def test_whatever_is_measured_more_work_never_takes_less_time(
    measured: list[tuple[int, int, int, float]],
) -> None:
    correction = Correction(CPU)
    for start, tokens, sequences, seconds in measured:
        correction.prefilled([(start, start + tokens)], seconds)
        correction.stepped(sequences, sequences * start, seconds)
        correction.lifted(tokens << 10, seconds)
    profile = correction.profile()

    assert all(value >= 0.0 for value in (*profile.prefill_s, *profile.step_s, *profile.transfer_s))
    assert prefill(profile)[0] <= prefill(profile)[1]
    assert step(profile) == sorted(step(profile))
    assert estimate.transfer_s(profile, 1 << 20) <= estimate.transfer_s(profile, 1 << 24)


def test_what_is_reported_is_a_tenth_of_a_second_old_at_most_and_solved_for_no_more_often() -> None:
    correction = Correction(CPU)
    assert correction.lately(now=0.0) == CPU
    correction.stepped(1, 512, 5.0)
    assert correction.lately(now=0.9 * LATELY_S) == CPU
    assert correction.lately(now=LATELY_S) == correction.profile() != CPU


def test_of_a_mixed_step_nothing_is_learned() -> None:
    def piece(request: str, start: int, tokens: int) -> Slice:
        return Slice(RequestId(request), [1] * tokens, start, [0], None)

    correction = Correction(CPU)
    correction.ran(Batch((piece("a", 0, 512), piece("b", 99, 1))), 5.0)
    assert correction.profile() == CPU
    correction.ran(Batch((piece("a", 0, 512), piece("b", 64, 64))), 5.0)
    correction.ran(Batch((piece("a", 511, 1), piece("b", 99, 1))), 0.5)
    told = Correction(CPU)
    told.prefilled([(0, 512), (64, 128)], 5.0, ended=0)
    told.stepped(2, 612, 0.5)
    assert correction.profile() == told.profile() != CPU
