"""A request's times are what vllm bench serve says they are. Times are sums of powers of two: equality is exact."""

import pytest

from loadtest.metrics.timing import e2el_s, input_tokens, itls_s, output_tokens, request_tbt_s, tbt_s, tpot_s
from loadtest.record import Chunk
from tests.loadtest.metrics.build import record


def test_the_first_chunk_is_the_first_token_and_the_last_one_the_end() -> None:
    found = record(0.5, 0.75, 1.5, ended_s=9.0)

    assert found.ttft_s == 0.5
    assert e2el_s(found) == 1.5  # not when the stream was closed
    assert itls_s(found) == [0.25, 0.75]


def test_the_first_token_is_no_part_of_the_time_per_token() -> None:
    assert tpot_s(record(4.0, 4.25, 4.5)) == 0.25


def test_one_token_has_no_time_per_token_and_no_gap() -> None:
    found = record(1.0)

    assert tpot_s(found) is None
    assert itls_s(found) == []
    assert request_tbt_s(found) is None


def test_the_server_counts_the_tokens_where_it_says_so() -> None:
    found = record(1.0, 2.0, completion_tokens=5, prompt_tokens=12)

    assert output_tokens(found) == 5
    assert tpot_s(found) == 0.25
    assert input_tokens(found) == 12


def test_else_the_chunks_do() -> None:
    found = record(chunks=(Chunk(1.0, 3), Chunk(2.0, 2)))

    assert output_tokens(found) == 5
    assert input_tokens(found) == 10


def test_a_chunk_of_several_tokens_is_one_gap() -> None:
    found = record(chunks=(Chunk(1.0, 4), Chunk(3.0, 4), Chunk(4.0, 1)))

    assert itls_s(found) == [2.0, 1.0]
    assert tpot_s(found) == 3.0 / 8


def test_an_answer_without_a_token_has_no_times() -> None:
    found = record()

    assert found.ttft_s is None
    assert e2el_s(found) is None
    assert tpot_s(found) is None
    assert output_tokens(found) == 0


def test_tbt_is_the_mean_of_the_longest_tenth_of_gaps() -> None:
    times = [0.0]
    for gap in [1.0] * 18 + [3.0, 5.0]:
        times.append(times[-1] + gap)

    assert tbt_s(times) == 4.0
    assert request_tbt_s(record(*times)) == 4.0
    assert tbt_s([0.0, 1.0, 4.0]) == 3.0


@pytest.mark.parametrize(("gaps", "longest"), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3)])
def test_a_tenth_is_of_whole_gaps_and_at_least_one(gaps: int, longest: int) -> None:
    times = [float(place * place) for place in range(gaps + 1)]  # gaps of 1, 3, 5 .. seconds

    assert tbt_s(times) == sum(2 * place + 1 for place in range(gaps - longest, gaps)) / longest
