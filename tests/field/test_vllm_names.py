"""A worker's metrics of vLLM's names are what vLLM's are: tools made for it read them without a change."""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kvstore.device import DeviceBlocks
from scheduler.progress import BatcherSnapshot
from services.gateway.metrics import Metrics
from services.wire.errors import WireError
from services.wire.pb import worker_pb2
from services.worker.metrics import WorkerMetrics
from services.worker.request_metrics import RequestMetrics
from tests.field.vllm_names import CACHE_CONFIG, HTTP, REQUESTS, SCHEDULER, Named

OF_ANY = {"model_name": "toy", "engine": "0"}
WAITING = BatcherSnapshot(running=3, waiting=7, loading=2, prefill_tokens_queued=0, kv_tokens=0, live=(), preemptions=1)


def families(registry: CollectorRegistry) -> dict[str, Metric]:
    """As Prometheus reads them, by the names of their samples without a histogram's endings."""
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        if not family.name.endswith("_created"):
            found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


@pytest.fixture(scope="module")
def worker() -> Mapping[str, Metric]:
    metrics = WorkerMetrics("toy", "decode", max_model_len=4000)
    metrics.configured(block_size=64, num_gpu_blocks=100, cache_dtype="bfloat16")
    metrics.watch(lambda: WAITING, DeviceBlocks(100), lambda: True)
    return families(metrics.registry)


def labels(family: Metric) -> Iterator[dict[str, str]]:
    for sample in family.samples:
        if not sample.name.endswith("_created"):
            yield {key: value for key, value in sample.labels.items() if key != "role"}  # which is ours


def bounds(family: Metric) -> set[float]:
    return {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}


@pytest.mark.parametrize(("name", "named"), [*SCHEDULER.items(), *REQUESTS.items()])
def test_kind_labels_and_bounds_are_vllms_and_every_series_is_there_from_the_beginning(
    worker: Mapping[str, Metric], name: str, named: Named
) -> None:
    family = worker[name]
    assert family.type == named.kind
    apart = {"le"} if named.kind == "histogram" else set()
    split = {each.pop(named.by) for each in labels(family)} if named.by else set()
    assert split == set(named.values)
    for each in labels(family):
        assert {key: value for key, value in each.items() if key not in {named.by, *apart}} == OF_ANY
    if named.kind == "histogram":
        assert bounds(family) >= {*named.bounds, inf}


def test_the_worker_has_no_other_names_of_vllms(worker: Mapping[str, Metric]) -> None:
    assert {name for name in worker if name.startswith("vllm:")} == {*SCHEDULER, *REQUESTS, "vllm:cache_config_info"}


def test_bounds_of_tokens_end_at_the_longest_sequence(worker: Mapping[str, Metric]) -> None:
    assert max(bounds(worker["vllm:request_prompt_tokens"]) - {inf}) == 2000, "5000 is beyond 4000"


def test_the_caches_configuration_is_told_as_labels(worker: Mapping[str, Metric]) -> None:
    (sample,) = worker["vllm:cache_config_info"].samples
    assert sample.value == 1
    assert set(sample.labels) >= CACHE_CONFIG
    assert (sample.labels["block_size"], sample.labels["num_gpu_blocks"]) == ("64", "100")


def test_waiting_is_for_room_or_for_kv(worker: Mapping[str, Metric]) -> None:
    waiting = {
        sample.labels["reason"]: sample.value for sample in worker["vllm:num_requests_waiting_by_reason"].samples
    }
    assert waiting == {"capacity": 5, "deferred": 2}
    assert sum(waiting.values()) == worker["vllm:num_requests_waiting"].samples[0].value


@pytest.mark.parametrize(
    "wrong",
    [
        {"ended": [worker_pb2.Ended(reason="finished")]},
        {"ended": [worker_pb2.Ended(reason="stop", prompt_tokens=1, cached_tokens=2)]},
        {"begun": [worker_pb2.Begun(prompt_tokens=1, cached_tokens=2)]},
        {"begun": [worker_pb2.Begun(prompt_tokens=9, cached_tokens=1, lifted=worker_pb2.Lifted(p2p=2))]},
    ],
)
def test_what_a_gateway_can_not_have_seen_is_refused_and_counts_nothing(wrong: Mapping[str, Any]) -> None:
    registry = CollectorRegistry()
    requests = RequestMetrics(registry, OF_ANY, max_model_len=4000)
    before = generate_latest(registry)
    with pytest.raises(WireError):
        requests.account(worker_pb2.AccountRequest(generation_tokens=5, **wrong))
    assert generate_latest(registry) == before


def test_the_gateway_has_http_figures_and_none_of_vllms_names() -> None:
    metrics = Metrics()
    metrics.exchanged("/v1/completions", "POST", "2xx", 0.2)
    found = families(metrics.registry)
    for name, (kind, by, limits) in HTTP.items():
        assert found[name].type == kind
        assert {key for each in labels(found[name]) for key in each} - {"le"} == by
        assert bounds(found[name]) - {inf} == set(limits)
    assert not [name for name in found if name.startswith("vllm:")]
