"""The summary of scripted records, by hand."""

import json
from math import inf

import pytest

from loadtest.metrics import Facts, summary
from loadtest.metrics.slo import parse
from loadtest.metrics.spread import spread
from loadtest.workload.ramps import Ramp, Strategy
from tests.loadtest.metrics.build import WHEN, cancelled, facts, failed, record, refused

LATENCIES = ("ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue")
FIGURES = ("mean", "median", "std", "p50", "p90", "p99")
VLLM = [
    "date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate",
    "burstiness", "max_concurrency",
    "ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps",
    "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
    "request_throughput", "request_goodput", "output_throughput", "total_token_throughput",
    "max_output_tokens_per_s", "max_concurrent_requests",
    *(f"{figure}_{latency}_ms" for latency in LATENCIES for figure in FIGURES),
]  # fmt: skip


def test_it_has_the_keys_of_vllm_bench_serve_and_is_json() -> None:
    for found in (summary([record(0.5, 1.0)], facts()), summary([], facts())):
        assert set(VLLM) <= set(found)
        json.dumps(found, allow_nan=False)


def test_counts_and_rates() -> None:
    offered = [
        record(0.5, 1.0, prompt_tokens=12, completion_tokens=2),
        record(0.5, 1.0, sent_s=1.0, completion_tokens=2),
        refused(sent_s=2.0),
        refused(sent_s=2.0, cause="rate_limit_exceeded"),
        refused(sent_s=2.0),
        failed(0.5, sent_s=3.0, ended_s=4.0),
        cancelled(0.5, sent_s=3.0),
    ]
    found = summary(offered, facts())

    assert (found["num_prompts"], found["completed"], found["failed"], found["refused"]) == (7, 2, 4, 3)
    assert found["cancelled"] == 1
    assert found["refusals_by_cause"] == {"slo_unattainable": 2, "rate_limit_exceeded": 1}
    assert found["failures_by_cause"] == {"http 500": 1}
    assert found["duration"] == 4.0
    assert found["total_input_tokens"] == 22
    assert found["total_output_tokens"] == 4
    assert found["request_throughput"] == 0.5
    assert found["output_throughput"] == 1.0
    assert found["total_token_throughput"] == 6.5
    assert found["offered_request_rate"] == 7 / 3.0


def test_latencies_are_of_finished_requests() -> None:
    found = summary([record(0.5, 0.75, 1.5), record(1.0), failed(64.0, 128.0)], facts())

    assert found["mean_ttft_ms"] == 750.0
    assert found["median_ttft_ms"] == 750.0
    assert found["std_ttft_ms"] == 250.0
    assert found["mean_tpot_ms"] == 500.0  # of the one with more than one token
    assert (found["mean_itl_ms"], found["p50_itl_ms"]) == (500.0, 500.0)
    assert found["p90_itl_ms"] == pytest.approx(700.0)  # between 250 and 750
    assert found["mean_e2el_ms"] == 1250.0
    assert found["p99_tbt_ms"] == 750.0


def test_goodput_and_attainment_are_over_what_was_offered() -> None:
    offered = [record(0.5, 0.625), record(2.0, 2.125), refused(), cancelled(0.5, 0.75), record(0.5, 4.0)]
    found = summary(offered, facts(slos=parse(["ttft:1000", "tpot:125"])))

    assert found["request_goodput"] == 0.25  # one in 4 s
    assert found["slo_attainment"] == 0.25  # one in 4: the cancelled one is not judged
    assert found["slo_attainment_by"] == {"ttft:1000": 0.5, "tpot:125": 0.5}


def test_without_bounds_nothing_is_good_or_bad() -> None:
    found = summary([record(0.5)], facts())

    assert found["request_goodput"] is None
    assert found["slo_attainment"] is None


def test_the_share_of_cached_tokens_is_of_those_requests_that_tell() -> None:
    found = summary([record(1.0, cached_tokens=4), record(1.0, cached_tokens=0), record(1.0)], facts())

    assert found["total_cached_tokens"] == 4
    assert found["cached_token_share"] == 0.2
    assert found["total_computed_tokens"] == 16
    assert summary([record(1.0)], facts())["cached_token_share"] is None


def test_predictions_are_held_against_what_happened() -> None:
    offered = [record(1.0, predicted_ttft_s=value) for value in (0.5, 0.75, 1.5)] + [record(1.0)]
    found = summary(offered, facts())["ttft_prediction"]

    assert found["requests"] == 3
    assert found["median_absolute_error"] == 0.5
    assert found["p90_absolute_error"] == 0.5
    assert found["median_ratio"] == 0.75
    assert summary([record(1.0)], facts())["ttft_prediction"] is None


def test_the_harness_lag_is_from_plan_to_sending() -> None:
    found = summary([record(1.0, sent_s=2.0, planned_s=1.5), record(1.0)], facts())

    assert (found["mean_lag_ms"], found["p50_lag_ms"]) == (250.0, 250.0)
    assert summary([refused(sent_s=2.0, planned_s=1.5)], facts())["p99_lag_ms"] == 500.0  # of all that was sent


def test_what_a_bound_on_concurrency_holds_back_is_told_beside_the_latencies() -> None:
    offered = [record(0.5, 1.0), record(0.5, 1.0, queued_s=3.0), refused(queued_s=64.0)]
    found = summary(offered, facts(max_concurrency=1))

    assert (found["mean_client_queue_time_ms"], found["p99_client_queue_time_ms"]) == (1500.0, pytest.approx(2970.0))
    assert found["mean_e2el_ms"] == 1000.0
    assert found["mean_e2el_including_client_queue_ms"] == 2500.0
    assert summary(offered, facts(max_concurrency=1, paced=False))["mean_e2el_including_client_queue_ms"] is None
    assert summary(offered, facts())["mean_client_queue_time_ms"] is None


def test_a_ramp_is_told_as_vllm_tells_it() -> None:
    found = summary([], facts(ramp=Ramp(Strategy.LINEAR, 1.0, 9.0), burstiness=inf))

    assert (found["ramp_up_strategy"], found["ramp_up_start_rps"], found["ramp_up_end_rps"]) == ("linear", 1.0, 9.0)
    assert (found["request_rate"], found["burstiness"]) == ("inf", "inf")
    assert summary([], facts())["ramp_up_strategy"] is None


def test_peaks() -> None:
    one, two = record(0.5, 0.75, 1.25), record(0.25, 0.5, sent_s=1.0)
    found = summary([one, two, record(1.0, sent_s=1.5)], facts())

    assert found["max_concurrent_requests"] == 2  # the first ends when 1.25 is over, before 1.5
    assert found["max_output_tokens_per_s"] == 3.0  # 1.25, 1.25 and 1.5


def test_chunks_that_hide_tokens_share_what_the_server_counted() -> None:
    found = summary([record(0.25, 0.5, completion_tokens=6)], facts())

    assert found["max_output_tokens_per_s"] == 6.0


def test_of_nothing_there_are_nulls_and_zeros() -> None:
    found = summary([], facts())

    assert found["mean_ttft_ms"] is None
    assert found["request_throughput"] == 0.0
    assert found["offered_request_rate"] is None


def test_an_endless_rate_is_a_word_as_json_has_none() -> None:
    assert summary([], Facts(WHEN, request_rate=inf))["request_rate"] == "inf"
    assert summary([], Facts(WHEN, request_rate=2.5))["request_rate"] == 2.5
    assert summary([], Facts(WHEN))["date"] == "20260102-030405"


def test_a_spread_is_numpys() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0])

    assert found == {
        "mean": 2.5, "median": 2.5, "std": pytest.approx(1.25**0.5), "p50": 2.5,
        "p90": pytest.approx(3.7), "p99": pytest.approx(3.97),
    }  # fmt: skip
    assert spread([2.0], unit=0.5)["p99"] == 4.0
