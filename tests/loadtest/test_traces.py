"""Traces in Mooncake's format, and what stands in for them."""

import json

import pytest

from loadtest.request import Span, text
from loadtest.traces import Row, TraceError, conversation, parse, requests
from tests.loadtest.build import chance, published


def line(**changes: object) -> str:
    fields: dict[str, object] = {"timestamp": 1500, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}
    fields.update(changes)
    return json.dumps({key: value for key, value in fields.items() if value is not ...})


def test_timestamps_are_milliseconds_and_blocks_have_512_tokens() -> None:
    first, second = requests(parse([line(timestamp=1000), line(timestamp=4000)]).rows)

    assert (first.at_s, second.at_s) == (0.0, 3.0)
    assert first.prompt == (Span(0, 512), Span(1, 512), Span(2, 1100 - 1024))
    assert (first.input_tokens, first.output_tokens) == (1100, 7)


def test_a_prompt_of_whole_blocks_has_no_partial_one() -> None:
    (request,) = requests(parse([line(input_length=1024, hash_ids=[4, 5])]).rows)

    assert request.prompt == (Span(4, 512), Span(5, 512))


def test_speed_shortens_the_time_between_requests() -> None:
    rows = parse([line(timestamp=0), line(timestamp=3000)]).rows

    assert [request.at_s for request in requests(rows, speed=1.5)] == [0.0, 2.0]


def test_length_scales_blocks_so_that_shared_prefixes_stay_shared() -> None:
    rows = parse([line(), line(input_length=1200, hash_ids=[0, 1, 3])]).rows

    short, other = requests(rows, length=0.25)

    assert short.prompt == (Span(0, 128), Span(1, 128), Span(2, 19))
    assert other.prompt[:2] == short.prompt[:2]
    assert short.output_tokens == 2
    assert requests(rows, length=2.0)[0].prompt == (Span(0, 1024), Span(1, 1024), Span(2, 152))


def test_lines_out_of_order_are_put_in_order() -> None:
    assert [row.timestamp for row in parse([line(timestamp=9), line(timestamp=3)]).rows] == [3.0, 9.0]


def test_empty_lines_are_no_requests() -> None:
    assert len(parse([line(), "", "  \n"]).rows) == 1


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("{", "mine line 2 is not JSON"),
        ("[1]", "mine line 2 is not a JSON object, but list"),
        (line(timestamp=...), "mine line 2: timestamp is missing"),
        (line(timestamp="1"), "mine line 2: timestamp is '1', not a time from 0 on, nor a date"),
        (line(timestamp=-1), "mine line 2: timestamp is -1"),
        (line(timestamp=True), "mine line 2: timestamp is True"),
        ('{"timestamp": NaN}', "mine line 2: timestamp is nan"),
        (line(input_length=-1), "mine line 2: input_length is -1, not a number of tokens"),
        (line(input_length=1100.5), "mine line 2: input_length is 1100.5"),
        (line(input_length=..., text_input="hello"), "mine line 2: input_length is missing; text_input is not read"),
        (line(output_length=...), "mine line 2: output_length is missing"),
        (line(hash_ids=[0, 1]), "mine line 2: hash_ids has 2 entries, but 1100 tokens are 3 blocks of 512"),
        (line(hash_ids=[0, 1, 2.5]), "mine line 2: hash_ids is not a list of numbers"),
        (line(hash_ids=...), "mine line 2: hash_ids is missing, and other lines have it"),
        (line(hash_ids="012"), "mine line 2: hash_ids is not a list"),
    ],
)
def test_a_bad_line_is_named_with_its_field(broken: str, sentence: str) -> None:
    with pytest.raises(TraceError) as error:
        parse([line(), broken], source="mine")

    assert sentence in str(error.value)


def test_a_file_without_requests_is_an_error() -> None:
    with pytest.raises(TraceError, match="mine has no requests"):
        parse([""], source="mine")


@pytest.mark.parametrize(("speed", "length"), [(0.0, 1.0), (1.0, -1.0)])
def test_factors_are_above_0(speed: float, length: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        requests(parse([line()]).rows, speed=speed, length=length)


def test_equal_spans_are_equal_tokens() -> None:
    assert list(text([Span(7, 2), Span(2**32 - 1, 1), Span(7, 1)])) == [7, 7, 2**32 - 1, 7]


def statistics(rows: list[Row]) -> dict[str, float]:
    lengths = sorted(row.input_length for row in rows)
    return {
        "requests": len(rows),
        "seconds": rows[-1].timestamp / 1000,
        "input mean": sum(lengths) / len(lengths),
        "input p50": lengths[len(lengths) // 2],
        "input p90": lengths[len(lengths) * 9 // 10],
        "input p99": lengths[len(lengths) * 99 // 100],
        "output mean": sum(row.output_length for row in rows) / len(rows),
        "blocks": sum(len(row.hash_ids) for row in rows),
        "unique": len({name for row in rows for name in row.hash_ids}),
    }


PUBLISHED = {
    "requests": 12_031, "seconds": 3537, "input mean": 12_035, "input p50": 6909, "input p90": 27_367,
    "input p99": 85_400, "output mean": 343, "blocks": 288_500, "unique": 182_790,
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_built_in_trace_has_the_published_ones_statistics(seed: int) -> None:
    rows = conversation(chance(seed))

    assert statistics(rows) == pytest.approx(PUBLISHED, rel=0.12)
    assert all(row.hash_ids[0] == 0 and len(row.hash_ids) == -(-row.input_length // 512) for row in rows)


def test_the_published_trace_is_read_as_its_paper_describes_it() -> None:
    assert statistics(published()) == pytest.approx(PUBLISHED, rel=2e-3)


def test_the_built_in_trace_is_a_function_of_its_seed() -> None:
    assert conversation(chance(5), number=500) == conversation(chance(5), number=500)
    assert conversation(chance(5), number=500) != conversation(chance(6), number=500)
