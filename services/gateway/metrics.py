"""What a gateway counts, under vLLM's names where it has them and ``moonpool_gateway_*`` else.

One registry for each app, so that two gateways can live in one process. Label sets are
bounded: no ids, no addresses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from scheduler.degraded import degraded
from services.gateway.generation import Account
from services.wire.cluster_codec import Cluster

FIRST_TOKEN_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
BETWEEN_TOKENS_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),  # finer than vLLM's, which start at 10 ms
    *(0.01, 0.0125, 0.015, 0.02, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40),
    80,
)
WHOLE_S = (*(0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680),)
SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TOKENS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5))

ALIASES = {
    "vllm:time_to_first_token_seconds": "moonpool_gateway_ttft_seconds",
    "vllm:inter_token_latency_seconds": "moonpool_gateway_itl_seconds",
    "vllm:e2e_request_latency_seconds": "moonpool_gateway_e2e_seconds",
    "vllm:request_queue_time_seconds": "moonpool_gateway_queue_seconds",
}


class Metrics:
    """Every metric of one gateway; the labelled ones are resolved once."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._model = model
        self._families: dict[str, Histogram] = {}

        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", FIRST_TOKEN_S
        )
        self.predicted_first_token = Histogram(
            "moonpool_gateway_predicted_ttft_seconds",
            "What was predicted of the same requests, when they were placed.",
            buckets=FIRST_TOKEN_S,
            registry=self.registry,
        )
        self.between_tokens = self._histogram(
            "vllm:inter_token_latency_seconds", "Between a stream's successive steps.", BETWEEN_TOKENS_S
        )
        self.per_output_token = self._histogram(
            "vllm:request_time_per_output_token_seconds",
            "A request's mean time for each token after its first.",
            BETWEEN_TOKENS_S,
        )
        self.whole = self._histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.", WHOLE_S)
        self.queue = self._histogram(
            "vllm:request_queue_time_seconds", "In the queue of the worker that prefilled.", WHOLE_S
        )
        self.prefill = self._histogram(
            "vllm:request_prefill_time_seconds", "From the first chunk's start to the first token.", WHOLE_S
        )
        self.decode = self._histogram("vllm:request_decode_time_seconds", "From the first token to the last.", WHOLE_S)
        self.request_prompt_tokens = self._histogram("vllm:request_prompt_tokens", "Prompt tokens.", TOKENS)
        self.request_generation_tokens = self._histogram("vllm:request_generation_tokens", "Tokens given out.", TOKENS)
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens of requests that got an answer.")
        self.cached_tokens = self._counter(
            "vllm:prompt_tokens_cached", "Of these, tokens whose KV was reused; a handoff is no reuse."
        )
        self.generation_tokens = self._counter("vllm:generation_tokens", "Tokens given out.")
        self.waiting = self._gauge("vllm:num_requests_waiting", "Requests of this gateway before their first token.")
        self.running = self._gauge("vllm:num_requests_running", "Requests of this gateway after their first token.")
        self._success = Counter(
            "vllm:request_success",
            "Sequences that ended, by reason: stop, length, abort (the client left) or error.",
            ["model_name", "engine", "finished_reason"],
            registry=self.registry,
        )
        self.requests = Counter(
            "moonpool_gateway_requests",
            "HTTP requests for an answer, by status; 499: the client left first.",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.errors = Counter(
            "moonpool_gateway_errors",
            "Requests for an answer that ended with an error, by its code, or its type where it has none.",
            ["code"],
            registry=self.registry,
        )
        self.http_requests = Counter(
            "http_requests", "HTTP requests.", ["handler", "method", "status"], registry=self.registry
        )
        self.placements = Counter(
            "moonpool_gateway_placements",
            "Placements, by whether another worker was to prefill, and why.",
            ["decision"],
            registry=self.registry,
        )
        words = "Sequences that {} what was promised, by promise: ttft (from arrival) or tpot (the mean)."
        self._met = Counter("moonpool_slo_met", words.format("got"), ["slo"], registry=self.registry)
        self._missed = Counter("moonpool_slo_missed", words.format("did not get"), ["slo"], registry=self.registry)
        self.text = self._plain("moonpool_gateway_text_seconds", "Rendering, tokenizing and naming, with its queue.")
        self.placing = self._plain("moonpool_gateway_placing_seconds", "Asking conductors, with waiting for workers.")
        self.retries = Counter(
            "moonpool_gateway_retries", "Placements after the first of a sequence.", registry=self.registry
        )
        self.resumed = Counter(
            "moonpool_gateway_resumed", "Streams continued after their worker failed.", registry=self.registry
        )
        self.cancelled = Counter(
            "moonpool_gateway_cancellations", "Requests whose client left.", registry=self.registry
        )
        self.registry.register(_Aliases(self._families))

    def watch(self, cluster: Callable[[], Cluster | None]) -> None:
        """Read from now on what a conductor said last."""
        self.registry.register(_Known(cluster))

    def placements_of(self, account: Account) -> None:
        """How one sequence was placed, however often."""
        for decision in account.decisions:
            self.placements.labels(decision.value).inc()
        self.retries.inc(max(0, account.placements - 1))
        self.resumed.inc(account.moves)
        self.placing.observe(account.placing_s)
        if account.queue_s is not None and account.prefill_s is not None:
            self.queue.observe(account.queue_s)
            self.prefill.observe(account.prefill_s)

    def promised(self, slo: str, promise_s: float, got_s: float) -> None:
        """What one sequence got of what held for it; inf: nothing was promised, or nothing came."""
        if promise_s < inf:
            (self._met if got_s <= promise_s else self._missed).labels(slo).inc()

    def ended(self, reason: str) -> None:
        """A sequence ended: stop, length, abort or error."""
        self._success.labels(self._model, "0", reason).inc()

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, words: str, buckets: Sequence[float]) -> Histogram:
        family = Histogram(name, words, ["model_name", "engine"], buckets=buckets, registry=self.registry)
        self._families[name] = family
        return family.labels(self._model, "0")

    def _plain(self, name: str, words: str) -> Histogram:
        return Histogram(name, words, buckets=SHORT_S, registry=self.registry)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(name, words, ["model_name", "engine"], registry=self.registry).labels(self._model, "0")

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(name, words, ["model_name", "engine"], registry=self.registry).labels(self._model, "0")


class _Aliases(Collector):
    """The same figures under our own names: observed once, told twice."""

    def __init__(self, families: Mapping[str, Histogram]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, alias in ALIASES.items():
            for family in self._families[name].collect():
                told = Metric(alias, family.documentation, family.type)
                told.samples = [sample._replace(name=sample.name.replace(name, alias, 1)) for sample in family.samples]
                yield told

    def describe(self) -> Iterator[Metric]:
        for alias in ALIASES.values():
            yield Metric(alias, "", "histogram")


class _Known(Collector):
    """What conductors have said of the cluster, for alerts that need no other process than the gateway."""

    def __init__(self, cluster: Callable[[], Cluster | None]) -> None:
        self._cluster = cluster

    def collect(self) -> Iterator[Metric]:
        known = self._cluster()
        yield GaugeMetricFamily(
            "moonpool_degraded",
            "1 while one role has no worker and the other does its work",
            known is not None and degraded(known.workers) is not None,
        )
