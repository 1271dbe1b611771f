"""Everything that is not an answer: health, status, models, tokens, metrics, the description of it all."""

import asyncio
import logging
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from kvstore.layout import Identity
from scheduler.vocabulary import HitsReport, OwnerReport, Role, SsdReport
from services.gateway.cluster import ClusterClient
from services.gateway.text import Text
from services.wire.pb import worker_pb2
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.deployment import IDENTITY
from tests.services.gateway.fakes.worker import Fault

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 5}


async def test_health_is_200_and_empty_when_a_request_would_be_served(gateway: Gateway) -> None:
    for path in ("/health", "/ready"):
        answer = await gateway.http.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await gateway.http.head(path)).status_code == 200


@pytest.mark.parametrize(
    ("roles", "draining", "why"),
    [([], False, "No worker is ready: "), ([Role.DECODE], True, "shutting down")],
)
async def test_health_says_why_a_request_would_not_be_served(
    gateway: Gateway, cluster: FakeCluster, roles: list[Role], draining: bool, why: str
) -> None:
    cluster.conductor.workers = [worker for worker in (cluster.prefill, cluster.decode) if worker.role in roles]
    cluster.decode.draining = draining
    for path in ("/health", "/ready"):
        answer = await gateway.http.get(path)
        assert answer.status_code == 503
        assert why in answer.json()["error"]["message"]
    assert (await gateway.http.get("/live")).status_code == 200


@pytest.mark.parametrize(
    ("role", "sentence"),
    [(Role.PREFILL, "No decode worker lives"), (Role.DECODE, "No prefill worker lives")],
)
async def test_where_one_role_is_left_health_and_status_say_that_it_serves_degraded(
    gateway: Gateway, cluster: FakeCluster, role: Role, sentence: str
) -> None:
    cluster.conductor.workers = [worker for worker in (cluster.prefill, cluster.decode) if worker.role is role]
    answer = await gateway.http.get("/health")
    assert answer.status_code == 200
    assert sentence in answer.json()["degraded"]
    assert sentence in (await gateway.http.get("/status")).json()["degraded"]
    assert (await metrics(gateway))["moonpool_degraded",] == 1
    cluster.conductor.workers = [cluster.prefill, cluster.decode]
    assert (await gateway.http.get("/health")).content == b""
    assert (await gateway.http.get("/status")).json()["degraded"] is None
    assert (await metrics(gateway))["moonpool_degraded",] == 0


async def test_health_says_that_no_conductor_answers(gateway: Gateway) -> None:
    await gateway.front.cluster.close()
    gateway.front.cluster = ClusterClient(["unix:/nowhere/conductor.sock"])
    for path in ("/health", "/status"):
        answer = await gateway.http.get(path)
        assert answer.status_code == 503
        assert "conductor answers" in answer.json()["error"]["message"]
    assert (await gateway.http.get("/live")).status_code == 200


async def test_status_has_what_the_command_prints(gateway: Gateway) -> None:
    document = (await gateway.http.get("/status")).json()
    assert document["model"] == "toy"
    assert document["fingerprint"] == IDENTITY.fingerprint.hex()
    assert document["handoffs"] == 3
    assert document["placements"] == {"handed over": 3, "inline, sooner": 2}
    assert document["conductors"] == [{"id": "conductor-0", "pid": 4710}]
    assert [each["id"] for each in document["gateways"]] == ["gateway-0"]
    workers = {each["id"]: each for each in document["workers"]}
    assert workers["prefill-0"]["role"] == "prefill"
    assert {"pid", "running", "waiting", "device_blocks_free", "device_blocks_total"} <= workers["decode-0"].keys()
    store = document["stores"][0]
    assert store["slots_free"] + store["slots_writing"] + store["slots_sealed"] == store["slots_total"]
    assert {"id", "pid", "leases"} <= store.keys()
    assert (store["ssd"], store["ssd_pending"], store["owners"]) == (None, 0, [])


async def test_status_says_why_nobody_serves_and_who_is_gone(gateway: Gateway, cluster: FakeCluster) -> None:
    document = (await gateway.http.get("/status")).json()
    assert (document["not_serving"], document["gone"]) == (None, [])
    clock = asyncio.get_running_loop().time
    gateway.front._clock = lambda: clock() + 100.0
    cluster.conductor.workers = []
    document = (await gateway.http.get("/status")).json()
    assert document["not_serving"].startswith("No worker is ready")
    assert {each["id"]: each["role"] for each in document["gone"]} == {"prefill-0": "prefill", "decode-0": "decode"}
    assert all(100.0 <= each["for_s"] < 110.0 for each in document["gone"])


async def test_status_tells_of_tiers_and_owners(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.store.tiers = {
        "transfer_address": "10.0.0.1:7201",
        "ssd": SsdReport("off", "the disk is full", slots_total=100, slots_held=60, pending=4),
        "hits": HitsReport(asked=8, dram=4, ssd=2, peer=1),
        "owners": (OwnerReport("decode-0", leases=3, writing=1),),
    }
    store = (await gateway.http.get("/status")).json()["stores"][0]
    assert store["transfer_address"] == "10.0.0.1:7201"
    assert (store["ssd"]["state"], store["ssd"]["reason"], store["ssd_pending"]) == ("off", "the disk is full", 4)
    assert store["hits"] == {"asked": 8, "dram": 4, "ssd": 2, "peer": 1}
    assert store["hit_rates"] == {"dram": 0.5, "ssd": 0.25, "peer": 0.125}
    assert store["owners"] == [{"owner": "decode-0", "leases": 3, "writing": 1, "set_aside": False}]


async def test_models_tell_how_long_a_sequence_may_be(gateway: Gateway) -> None:
    await gateway.front.refresh()
    document = (await gateway.http.get("/v1/models")).json()
    assert document["object"] == "list"
    card = document["data"][0]
    assert card == (await gateway.http.get("/v1/models/toy")).json()
    assert (card["id"], card["object"], card["max_model_len"]) == ("toy", "model", 512)


async def test_a_model_may_have_a_slash_in_its_name(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text, model="owner/model") as gateway:
        assert (await gateway.http.get("/v1/models/owner/model")).json()["id"] == "owner/model"
        assert (await gateway.http.post("/v1/completions", json=ASK | {"model": "owner/model"})).status_code == 200
        assert (await gateway.http.post("/v1/completions", json=ASK | {"model": "toy"})).status_code == 404


async def test_the_operator_can_make_sequences_shorter(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text, max_model_len=20) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 400
        assert (await gateway.http.post("/v1/completions", json=ASK | {"max_tokens": 4})).status_code == 200


async def test_tokenizing_and_back(gateway: Gateway, text: Text) -> None:
    await gateway.front.refresh()
    told = (await gateway.http.post("/tokenize", json={"prompt": "h\u00e9", "return_token_strs": True})).json()
    assert told == {
        "count": 3,
        "max_model_len": 512,
        "tokens": [104, 195, 169],
        "token_strs": ["h", "\u00c3", "\u00a9"],
    }
    assert (await gateway.http.post("/detokenize", json={"tokens": told["tokens"]})).json() == {"prompt": "h\u00e9"}


async def test_a_conversation_is_tokenized_as_it_would_be_answered(gateway: Gateway, cluster: FakeCluster) -> None:
    messages = [{"role": "user", "content": "hello"}]
    tokens = (await gateway.http.post("/tokenize", json={"messages": messages})).json()["tokens"]
    await gateway.http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1})
    assert list(cluster.decode.decodes[0].prompt) == tokens


async def test_version_and_load(gateway: Gateway) -> None:
    assert (await gateway.http.get("/version")).json().keys() == {"version"}
    assert (await gateway.http.get("/load")).json() == {"server_load": 0}


async def test_caches_are_reset_only_where_developers_may(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text, dev_endpoints=True) as gateway:
        assert (await gateway.http.post("/reset_prefix_cache")).status_code == 200
    assert (cluster.prefill.resets, cluster.decode.resets, cluster.store.resets) == (1, 1, 1)


async def test_a_cache_that_is_not_reset_is_told(cluster: FakeCluster, text: Text) -> None:
    assert cluster.decode.server is not None
    await cluster.decode.server.stop(None)
    async with running(cluster, text, dev_endpoints=True) as gateway:
        answer = await gateway.http.post("/reset_prefix_cache")
    assert answer.status_code == 503


async def test_the_description_names_every_route_and_body(gateway: Gateway) -> None:
    document = (await gateway.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatBody"}
    schemas = document["components"]["schemas"]
    assert schemas["ChatBody"]["required"] == ["messages"]
    assert "max_tokens" in schemas["CompletionBody"]["properties"]
    missing = [reference for reference in _references(document) if reference.rsplit("/", 1)[1] not in schemas]
    assert missing == []


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [each for item in node for each in _references(item)]
    if isinstance(node, dict):
        inner = [each for item in node.values() for each in _references(item)]
        return [*inner, node["$ref"]] if isinstance(node.get("$ref"), str) else inner
    return []


async def metrics(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of their labels, but for model and engine; once everything is accounted for."""
    await gateway.front.idle()
    answer = await gateway.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (
            sample.name,
            *(value for key, value in sample.labels.items() if key not in ("model_name", "engine")),
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def counted_by_workers(gateway: Gateway, cluster: FakeCluster) -> dict[tuple[str, ...], float]:
    """Samples of all workers together, as a board sums them, once they were told everything."""
    await gateway.front.idle()
    await gateway.front.ledger.deliver()
    sums: dict[tuple[str, ...], float] = {}
    for worker in cluster.workers:
        for family in worker.registry.collect():
            for sample in family.samples:
                split = [value for key, value in sample.labels.items() if key not in ("model_name", "engine", "role")]
                key = (sample.name, *split)
                sums[key] = sums.get(key, 0.0) + sample.value
    return sums


async def test_what_happened_can_be_counted(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.cached_tokens = 16
    await gateway.http.post("/v1/completions", json=ASK)
    cluster.conductor.hand_over = True
    await gateway.http.post("/v1/completions", json=ASK | {"stream": True})
    cluster.conductor.hand_over = False
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(after=2)]
    await gateway.http.post("/v1/completions", json=ASK)
    await gateway.http.post("/v1/completions", json=ASK | {"max_tokens": -1})
    await gateway.http.get("/nowhere")
    told = await counted_by_workers(gateway, cluster)
    assert told["vllm:time_to_first_token_seconds_count",] == 3
    assert told["vllm:inter_token_latency_seconds_count",] == 12
    for finished in (
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_time_per_output_token_seconds",
        "vllm:request_params_max_tokens",
        "vllm:request_params_n",
    ):
        assert told[f"{finished}_count",] == 3, finished
    assert told["vllm:request_success_total", "length"] == 3
    assert told["vllm:request_max_num_generation_tokens_sum",] == told["vllm:request_generation_tokens_sum",] == 15
    assert told["vllm:prompt_tokens_total",] == told["vllm:request_prompt_tokens_sum",] == 48
    assert told["vllm:prompt_tokens_cached_total",] == 32
    assert told["vllm:request_prefill_kv_computed_tokens_sum",] == 16
    assert told["vllm:generation_tokens_total",] == 15
    counted = await metrics(gateway)
    assert counted["moonpool_gateway_predicted_ttft_seconds_count",] == 3
    assert counted["moonpool_gateway_requests_running",] == counted["moonpool_gateway_requests_waiting",] == 0
    assert counted["moonpool_gateway_accounts_lost_total",] == 0
    assert counted["moonpool_gateway_requests_total", "/v1/completions", "200"] == 3
    assert counted["moonpool_gateway_placements_total", "handed over"] == 1
    assert counted["moonpool_gateway_placements_total", "inline, sooner"] == 3
    assert counted["moonpool_gateway_retries_total",] == 1
    assert counted["moonpool_gateway_resumed_total",] == 1
    assert counted["http_requests_total", "/v1/completions", "POST", "4xx"] == 1
    assert counted["moonpool_gateway_requests_total", "/v1/completions", "400"] == 1
    assert counted["moonpool_gateway_errors_total", "invalid_request_error"] == 1
    assert counted["http_requests_total", "none", "GET", "4xx"] == 1
    assert counted["http_request_duration_seconds_count", "/v1/completions", "POST"] == 4
    names = {key[0] for key in counted}
    assert "process_cpu_seconds_total" in names
    assert not {name for name in names if name.startswith("vllm:")}, "each of vLLM's names has one owner: workers"


async def test_clients_that_leave_are_counted(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=2, hold=True)]
    asking = asyncio.create_task(gateway.http.post("/v1/completions", json=ASK | {"stream": True}))
    await cluster.decode.called()
    asking.cancel()
    await cluster.at_rest()
    async with asyncio.timeout(5):
        await gateway.front.idle()
    counted = await metrics(gateway)
    assert counted["moonpool_gateway_cancellations_total",] == 1
    told = await counted_by_workers(gateway, cluster)
    assert told["vllm:request_success_total", "abort"] == 1
    assert counted["moonpool_gateway_requests_total", "/v1/completions", "499"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_who_has_its_whole_answer_has_not_left(gateway: Gateway, cluster: FakeCluster, stream: bool) -> None:
    await gateway.http.post("/v1/completions", json=ASK | {"n": 3, "stream": stream}, headers={"connection": "close"})
    told = await counted_by_workers(gateway, cluster)
    assert told["vllm:request_success_total", "length"] == 3
    assert (told["vllm:request_params_n_count",], told["vllm:request_params_n_sum",]) == (1, 3)
    assert told["vllm:request_max_num_generation_tokens_sum",] == ASK["max_tokens"]
    counted = await metrics(gateway)
    assert counted["moonpool_gateway_requests_total", "/v1/completions", "200"] == 1


async def test_two_gateways_in_one_process_count_for_themselves(
    gateway: Gateway, cluster: FakeCluster, text: Text
) -> None:
    async with running(cluster, text) as other:
        await other.http.post("/v1/completions", json=ASK)
        assert (await metrics(other))["moonpool_gateway_requests_total", "/v1/completions", "200"] == 1
    assert ("moonpool_gateway_requests_total", "/v1/completions", "200") not in await metrics(gateway)


async def test_a_sequence_is_counted_once_by_the_workers_that_gave_its_first_and_its_last_token(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.hand_over = True
    await gateway.http.post("/v1/completions", json=ASK)
    told = await counted_by_workers(gateway, cluster)
    assert (told["vllm:request_success_total", "length"], told["vllm:prompt_tokens_total",]) == (1, 16)

    def of(registry: CollectorRegistry, name: str) -> float | None:
        role = "prefill" if registry is cluster.prefill.registry else "decode"
        return registry.get_sample_value(name, {"model_name": "toy", "engine": "0", "role": role})

    prefill, decode = cluster.prefill.registry, cluster.decode.registry
    assert (of(prefill, "vllm:prompt_tokens_total"), of(decode, "vllm:prompt_tokens_total")) == (16, 0)
    assert (of(prefill, "vllm:generation_tokens_total"), of(decode, "vllm:generation_tokens_total")) == (1, 4)
    assert of(prefill, "vllm:e2e_request_latency_seconds_count") == 0
    assert of(decode, "vllm:e2e_request_latency_seconds_count") == 1


async def test_prompt_tokens_by_source_add_up(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.cached_tokens, cluster.decode.lifted = 14, worker_pb2.Lifted(host=4, disk=2, p2p=5)
    await gateway.http.post("/v1/completions", json=ASK)
    told = await counted_by_workers(gateway, cluster)
    sources = {key[1]: value for key, value in told.items() if key[0] == "vllm:prompt_tokens_by_source_total"}
    assert sources == {"local_compute": 2, "local_cache_hit": 3, "external_kv_transfer": 11}
    caches = {key[1]: value for key, value in told.items() if key[0] == "vllm:prompt_tokens_cached_by_source_total"}
    assert caches == {"device": 3, "host": 4, "disk": 2, "p2p": 5, "external_unspecified": 0}
    assert (told["vllm:prefix_cache_queries_total",], told["vllm:prefix_cache_hits_total",]) == (16, 3)
    assert told["vllm:external_prefix_cache_queries_total",] == 13
    assert told["vllm:external_prefix_cache_hits_total",] == 11


async def test_what_a_stop_string_cut_off_is_not_counted(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.portion = 5
    await gateway.http.post("/v1/completions", json=ASK | {"stop": "c", "max_tokens": 20})
    told = await counted_by_workers(gateway, cluster)
    assert told["vllm:request_success_total", "stop"] == 1
    assert told["vllm:generation_tokens_total",] == told["vllm:request_generation_tokens_sum",] == 3


async def test_what_was_refused_is_no_request_that_ended(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(code=grpc.StatusCode.INVALID_ARGUMENT, sentence="it can't be run")]
    assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 400
    told = await counted_by_workers(gateway, cluster)
    assert sum(value for key, value in told.items() if key[0] == "vllm:request_success_total") == 0


async def test_what_failed_at_its_worker_is_an_error_there(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=2) for _ in range(9)]
    assert (await gateway.http.post("/v1/completions", json=ASK)).status_code >= 500
    told = await counted_by_workers(gateway, cluster)
    assert told["vllm:request_success_total", "error"] == 1
    assert (told["vllm:prompt_tokens_total",], told["vllm:e2e_request_latency_seconds_count",]) == (16, 0)


async def test_a_worker_that_is_gone_hears_nothing_more_and_no_request_notices(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 200
    assert cluster.decode.server is not None
    await cluster.decode.server.stop(None)
    await gateway.front.idle()
    await gateway.front.ledger.deliver()
    assert (await metrics(gateway))["moonpool_gateway_accounts_lost_total",] == 1


@pytest.mark.parametrize("probe", ["/health", "/ready", "/live", "/ping", "/metrics", "/load", "/version"])
async def test_probes_are_no_http_requests(gateway: Gateway, cluster: FakeCluster, probe: str) -> None:
    cluster.conductor.workers = []
    await gateway.http.get(probe)
    await gateway.http.head(probe)
    counted = await metrics(gateway)
    assert not {key for key in counted if key[0].startswith("http_request") and probe in key}


async def test_a_finished_request_is_one_line_without_its_words(
    gateway: Gateway, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="services.gateway.request")
    cluster.conductor.hand_over = True
    await gateway.http.post("/v1/completions", json=ASK, headers={"x-request-id": "find-me"})
    await gateway.front.idle()
    records = [record for record in caplog.records if record.name == "services.gateway.request"]
    assert len(records) == 1
    told = records[0].__dict__["fields"]
    assert told["request"] == "find-me"
    assert (told["prefill"], told["decode"], told["status"], told["finish"]) == ("prefill-0", "decode-0", 200, "length")
    assert (told["prompt_tokens"], told["completion_tokens"], told["cached_tokens"]) == (16, 5, 0)
    for phase in ("text_s", "placing_s", "queue_s", "prefill_s", "ttft_s", "decode_s", "total_s"):
        assert told[phase] >= 0
    assert "once upon" not in str(told)


async def test_an_identity_that_changes_is_learned(gateway: Gateway, cluster: FakeCluster) -> None:
    first = await gateway.front.deployment()
    cluster.conductor.identity = Identity("toy", "ffff", "float32", 16, "abcd")
    await gateway.http.get("/health")
    assert (await gateway.front.deployment()).identity != first.identity


async def test_when_nobody_lives_the_last_identity_is_kept(gateway: Gateway, cluster: FakeCluster) -> None:
    first = await gateway.front.deployment()
    cluster.conductor.workers = []
    await gateway.front.refresh()
    assert await gateway.front.deployment() == first


async def test_before_anybody_has_joined_a_request_is_503(cluster: FakeCluster, text: Text) -> None:
    cluster.conductor.workers = []
    async with running(cluster, text) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK)
    assert answer.status_code == 503
    assert "No worker is ready" in answer.json()["error"]["message"]
