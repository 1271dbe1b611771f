"""Sampling: the right distribution, one draw per (seed, position), and ties by the smaller id."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engine.llama.sampling import choose, sample
from scheduler.batch import Slice
from scheduler.vocabulary import RequestId, Sampling

DRAWS = 4000

CHI_SQUARE_999 = {3: 16.27, 4: 18.47, 9: 27.88}
"""The 0.999 quantile by degrees of freedom. Seeds are fixed, so a test that passes always does."""


def logits(*probabilities: float) -> torch.Tensor:
    return torch.log(torch.tensor(probabilities, dtype=torch.float64)).float()


def piece(sampling: Sampling, end: int = 1, forbidden: frozenset[int] = frozenset()) -> Slice:
    return Slice(RequestId("a"), [0] * end, 0, [0], sampling, forbidden)


def counts(row: torch.Tensor, **settings: Any) -> list[int]:
    """How often each id comes out, over positions of one seed."""
    sampling = Sampling(**{"temperature": 1.0, "seed": 7} | settings)
    drawn = [sample(row, sampling, position) for position in range(DRAWS)]
    return np.bincount(drawn, minlength=len(row)).tolist()  # type: ignore[no-any-return]


def assert_distributed(observed: list[int], probabilities: list[float]) -> None:
    expected = np.array(probabilities) / sum(probabilities) * DRAWS
    seen = np.array(observed)
    assert seen[expected == 0].sum() == 0
    kept = expected > 0
    chi_square = float((((seen - expected) ** 2)[kept] / expected[kept]).sum())
    assert chi_square < CHI_SQUARE_999[int(kept.sum()) - 1], (observed, expected)


PROBABILITIES = [0.05, 0.3, 0.02, 0.1, 0.15, 0.03, 0.2, 0.05, 0.04, 0.06]


def test_tokens_come_as_often_as_their_probability_says() -> None:
    assert_distributed(counts(logits(*PROBABILITIES)), PROBABILITIES)


@pytest.mark.parametrize("seed", [0, 1, -5, 2**63, 2**64 - 1])
def test_every_seed_gives_the_distribution(seed: int) -> None:
    assert_distributed(counts(logits(*PROBABILITIES), seed=seed), PROBABILITIES)


def test_draws_of_neighbouring_seeds_at_one_position_are_independent_too() -> None:
    row = logits(*PROBABILITIES)
    drawn = [sample(row, Sampling(temperature=1.0, seed=seed), 100) for seed in range(DRAWS)]
    assert_distributed(np.bincount(drawn, minlength=10).tolist(), PROBABILITIES)


def test_temperature_sharpens_and_flattens() -> None:
    row = logits(*PROBABILITIES)
    for temperature in (0.5, 2.0):
        assert_distributed(counts(row, temperature=temperature), [p ** (1 / temperature) for p in PROBABILITIES])


def test_top_k_keeps_the_k_best() -> None:
    kept = [p if p >= 0.1 else 0.0 for p in PROBABILITIES]
    assert_distributed(counts(logits(*PROBABILITIES), top_k=4), kept)


def test_top_p_keeps_the_fewest_that_reach_p() -> None:
    # 0.3 + 0.2 + 0.15 = 0.65 < 0.7 <= 0.75: the token that crosses p is kept.
    kept = [p if p >= 0.1 else 0.0 for p in PROBABILITIES]
    assert_distributed(counts(logits(*PROBABILITIES), top_p=0.7), kept)


def test_top_p_counts_what_top_k_has_left() -> None:
    # Of 0.3, 0.2, 0.15, 0.1 the first three hold 0.87: enough for 0.85.
    kept = [p if p >= 0.15 else 0.0 for p in PROBABILITIES]
    assert sum(map(bool, kept)) == 3
    observed = counts(logits(*PROBABILITIES), top_k=4, top_p=0.85)
    assert [bool(count) for count in observed] == [bool(p) for p in kept]


def test_min_p_keeps_what_reaches_a_share_of_the_best() -> None:
    kept = [p if p >= 0.06 else 0.0 for p in PROBABILITIES]
    assert_distributed(counts(logits(*PROBABILITIES), min_p=0.19), kept)


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-300}])
def test_filters_at_their_ends_leave_the_best_token(settings: dict[str, Any]) -> None:
    assert counts(logits(*PROBABILITIES), **settings)[1] == DRAWS


def test_a_temperature_however_low_or_high_is_finite() -> None:
    row = torch.tensor([-3e38, 3e38, 0.0])
    assert sample(row, Sampling(temperature=1e-45, seed=1), 3) == 1
    assert_distributed(counts(torch.tensor([1.0, 2.0, 3.0, 4.0]), temperature=1e30), [0.25] * 4)


def test_the_same_seed_and_position_give_the_same_token_beside_others_and_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 500, generator=generator)
    sampling = [Sampling(temperature=0.9, top_k=50, top_p=0.9, seed=seed) for seed in range(6)]
    together = choose(rows.clone(), [piece(each, 40 + i) for i, each in enumerate(sampling)])
    assert together == [choose(rows[i : i + 1].clone(), [piece(sampling[i], 40 + i)])[0] for i in range(6)]


def test_position_is_that_of_the_token_that_is_sampled_however_the_step_was_cut() -> None:
    row = torch.zeros(1, 1000)
    sampling = Sampling(temperature=1.0, seed=3)
    whole = Slice(RequestId("a"), [0] * 50, 0, [0], sampling)
    last = Slice(RequestId("a"), [0], 49, [0], sampling)
    assert choose(row.clone(), [whole]) == choose(row.clone(), [last])
    assert choose(row.clone(), [last]) != choose(row.clone(), [Slice(RequestId("a"), [0], 50, [0], sampling)])


def test_greedy_ties_go_to_the_smaller_id() -> None:
    row = torch.zeros(1, 4000)
    row[0, [17, 1033, 3999]] = 5.0
    for dtype in (torch.float32, torch.bfloat16):
        assert choose(row.to(dtype), [piece(Sampling())]) == [17]


def test_ties_at_the_edge_of_top_k_go_to_the_smaller_ids() -> None:
    observed = counts(torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 0.0]), top_k=2)
    assert [bool(count) for count in observed] == [False, True, True, False, False, False]


def test_forbidden_tokens_are_never_chosen() -> None:
    row = logits(*PROBABILITIES)
    assert choose(row[None].clone(), [piece(Sampling(), forbidden=frozenset({1, 6}))]) == [4]
    for position in range(1, 300):
        forbidden = frozenset(range(9))
        assert choose(row[None].clone(), [piece(Sampling(temperature=1.0), position, forbidden)]) == [9]


def test_forbidden_ids_beyond_the_vocabulary_forbid_nothing() -> None:
    row = logits(*PROBABILITIES)
    assert choose(row[None].clone(), [piece(Sampling(), forbidden=frozenset({-1, 10, 1 << 40}))]) == [1]


def test_greedy_and_sampled_sequences_share_a_batch() -> None:
    rows = logits(*PROBABILITIES).repeat(3, 1)
    tokens = choose(rows, [piece(Sampling()), piece(Sampling(temperature=1.0, seed=1)), piece(Sampling())])
    assert tokens[0] == tokens[2] == 1


# -- penalties --------------------------------------------------------------------------------------------------------


def penalized(row: torch.Tensor, sampling: Sampling, prompt: list[int], output: list[int]) -> torch.Tensor:
    """The logits that ``choose`` takes the token from."""
    context = [*prompt, *output]
    found = row[None].clone()
    last, start = context[-1:], len(context) - 1
    choose(found, [Slice(RequestId("a"), last, start, [0], sampling, frozenset(), context, len(prompt))])
    return found[0]


LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.0, 3.0, -2.0, 1.5, 1.0])


def test_repetition_counts_prompt_and_output_once_as_transformers_does() -> None:
    prompt, output = [0, 1, 1, 3], [4, 5, 4]
    oracle = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    expected = oracle(torch.tensor([prompt + output]), LOGITS[None].clone())[0]
    assert torch.equal(penalized(LOGITS, Sampling(repetition_penalty=1.3), prompt, output), expected)


def test_presence_and_frequency_count_the_output_alone() -> None:
    found = penalized(LOGITS, Sampling(presence_penalty=0.5, frequency_penalty=0.25), [0, 1, 4, 4], [4, 5, 4])
    expected = LOGITS.clone()
    expected[4] -= 0.5 + 2 * 0.25
    expected[5] -= 0.5 + 0.25
    assert torch.equal(found, expected)


def test_repetition_comes_before_what_is_taken_away() -> None:
    sampling = Sampling(repetition_penalty=2.0, presence_penalty=1.0)
    found = penalized(LOGITS, sampling, [0], [4, 5])
    assert found[[0, 4, 5]].tolist() == [1.0, 3.0 / 2 - 1, -4.0 - 1]


def test_a_penalty_changes_what_greedy_takes_and_only_in_its_own_row() -> None:
    rows = torch.stack([LOGITS, LOGITS])
    context = [7, 4, 4]
    sliced = Slice(RequestId("a"), [4], 2, [0], Sampling(frequency_penalty=1.0), frozenset(), context, 1)
    assert choose(rows, [sliced, piece(Sampling())]) == [0, 4]


def test_negative_penalties_favour_what_was_said() -> None:
    rows = LOGITS[None].clone()
    sampling = Sampling(presence_penalty=-2.0)
    assert choose(rows, [Slice(RequestId("a"), [2], 1, [0], sampling, frozenset(), [7, 6], 1)]) == [6]


def test_penalties_are_not_rounded_away_in_bfloat16() -> None:
    row = torch.tensor([256.0, 255.0], dtype=torch.bfloat16)  # neighbours of 256 are 255 and 258
    sampling = Sampling(presence_penalty=0.6, frequency_penalty=0.6)
    assert choose(row[None], [Slice(RequestId("a"), [0], 1, [0], sampling, frozenset(), [1, 0], 1)]) == [1]


def test_a_forbidden_token_stays_forbidden_under_penalties() -> None:
    sampling = Sampling(repetition_penalty=0.5, presence_penalty=-2.0)
    sliced = Slice(RequestId("a"), [4], 1, [0], sampling, frozenset({4}), [4, 4], 1)
    assert choose(LOGITS[None].clone(), [sliced]) == [0]
