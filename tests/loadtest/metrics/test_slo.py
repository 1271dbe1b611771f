"""Bounds, as vllm bench serve takes them, and who keeps them."""

import pytest

from loadtest.metrics.slo import Slo, SloError, good, parse
from tests.loadtest.metrics.build import cancelled, failed, record, refused

BOTH = parse(["ttft:1000", "tpot:250"])


def test_bounds_are_milliseconds_after_a_colon() -> None:
    assert parse(["ttft:500", "e2el:1500.5"]) == (Slo("ttft", 0.5), Slo("e2el", 1.5005))
    assert [str(slo) for slo in BOTH] == ["ttft:1000", "tpot:250"]


@pytest.mark.parametrize("word", ["ttft", "ttft:", "ttft:x", "ttft:0", "ttft:-1", "ttft:inf", "ttft:nan", "itl:5"])
def test_what_is_no_bound_is_said(word: str) -> None:
    with pytest.raises(SloError, match="is no bound: one of ttft, tpot, tbt, e2el"):
        parse([word])


def test_nothing_is_bounded_twice() -> None:
    with pytest.raises(SloError, match="ttft is bounded twice"):
        parse(["ttft:5", "ttft:6"])


def test_good_is_finished_within_every_bound() -> None:
    assert good(record(1.0, 1.25, 1.5), BOTH) is True
    assert good(record(1.25, 1.5), BOTH) is False
    assert good(record(0.5, 1.0, 1.5), BOTH) is False


def test_one_token_keeps_every_bound_between_tokens() -> None:
    assert good(record(0.5), parse(["tpot:1", "tbt:1"])) is True


def test_refused_and_failed_requests_are_not_good() -> None:
    assert good(refused(), BOTH) is False
    assert good(failed(0.5, 0.75), BOTH) is False
    assert good(refused(), ()) is False


def test_a_cancelled_request_is_judged_only_by_what_it_had_already_broken() -> None:
    assert good(cancelled(0.5, 0.75), BOTH) is None
    assert good(cancelled(1.5, 1.75), BOTH) is False  # its first token was late
    assert good(cancelled(ended_s=2.0), BOTH) is False  # nothing had come for 2 s
    assert good(cancelled(ended_s=0.5), BOTH) is None
    assert good(cancelled(0.5, 1.5), parse(["e2el:1000"])) is False
    assert good(cancelled(0.5, 9.0), parse(["tpot:1"])) is None  # a mean may come right


def test_what_left_exactly_at_a_bound_had_not_broken_it() -> None:
    assert good(cancelled(1.0, 1.25), BOTH) is None
    assert good(cancelled(ended_s=1.0), BOTH) is None
