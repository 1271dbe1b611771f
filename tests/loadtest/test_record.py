"""What is reported of requests."""

import pytest

from loadtest.simulator.record import Record, distribution, summary, tbt_s


def record(**changes: object) -> Record:
    facts: dict[str, object] = {
        "place": 0, "asked_s": 0.0, "input_tokens": 1000, "output_tokens": 10, "blocks": 2,
        "cached_tokens": 512, "cached_blocks": 1, "ttft_s": 1.0, "tbt_s": 0.1, "ended_s": 2.0,
    }  # fmt: skip
    return Record(**{**facts, **changes})  # type: ignore[arg-type]


def test_the_time_between_tokens_is_the_mean_of_the_longest_tenth_of_gaps() -> None:
    times = [0.0]
    for gap in [1.0] * 18 + [3.0, 5.0]:
        times.append(times[-1] + gap)

    assert tbt_s(times) == pytest.approx(4.0)


def test_few_tokens_have_one_longest_gap_and_one_token_none() -> None:
    assert tbt_s([0.0, 1.0, 4.0]) == 3.0
    assert tbt_s([1.0]) is None


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"ttft_s": 2.1}, False),
        ({"tbt_s": 0.3}, False),
        ({"tbt_s": None}, True),
        ({"ended_s": None}, False),
    ],
)
def test_a_request_is_good_when_it_finished_within_both(changes: dict[str, object], good: bool) -> None:
    assert record(**changes).within(2.0, 0.2) == good


def test_without_slos_whatever_finished_is_good() -> None:
    assert record(ttft_s=1e6).within(None, None)


def test_the_summary_counts_every_offered_request() -> None:
    rejected = record(ttft_s=None, tbt_s=None, ended_s=None, rejected="too late", cached_tokens=0, cached_blocks=0)
    found = summary([record(), rejected], ttft_slo_s=1.5, tbt_slo_s=None, seed=3, wall_s=0.1234)

    assert found == {
        "requests": 2, "completed": 1, "rejected": 1,
        "ttft_s": {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0},
        "tbt_s": {"mean": 0.1, "p50": 0.1, "p90": 0.1, "p99": 0.1},
        "goodput": 0.5, "hit_rate": {"block": 0.5, "token": 0.512}, "wall_s": 0.123, "seed": 3,
    }  # fmt: skip


def test_of_nothing_there_is_no_distribution() -> None:
    assert distribution([]) == {"mean": None, "p50": None, "p90": None, "p99": None}
