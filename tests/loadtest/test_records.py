"""Records survive their file, and a line that is none is told."""

import pytest

from loadtest.record import Chunk, Outcome, PoolSample, Record, RecordError, pool_samples, records, to_line

DONE = Record(3, 1.0, 1.25, 12, 4, Outcome.FINISHED, 2.0, (Chunk(0.5, 1), Chunk(0.75, 3)), cached_tokens=8)


def test_what_is_written_is_read_again() -> None:
    refused = Record(4, 1.0, 1.0, 12, 4, Outcome.REFUSED, 1.1, cause="slo_unattainable", status=429)
    lines = [to_line(DONE), "", to_line(refused)]
    assert list(records(lines, source="x")) == [DONE, refused]


def test_samples_of_pools_are_read_again() -> None:
    sample = PoolSample(1.5, "prefill", 2, 3, 4, kv_used=0.5)
    assert list(pool_samples([to_line(sample)], source="x")) == [sample]


@pytest.mark.parametrize("line", ["{", "[]", '{"place": 1}', '{"outcome": "lost"}', to_line(DONE)[:-1] + ',"x":1}'])
def test_a_line_that_is_no_record_is_named(line: str) -> None:
    with pytest.raises(RecordError, match=r"run\.jsonl, line 2: no record"):
        list(records([to_line(DONE), line], source="run.jsonl"))


def test_what_a_record_says_follows_from_its_chunks() -> None:
    assert DONE.ttft_s == 0.5
    assert DONE.lag_s == 0.25
    assert DONE.finished
