"""What a gateway counts of itself: what it was asked, how it answered and placed, and what it promised.

Whatever has a name in vLLM is counted by workers (``ledger.py``), so that no sum over processes has it twice. One
registry for each app, so that two gateways can live in one process. Label sets are bounded: no ids, no addresses.
"""

from collections.abc import Callable, Iterator
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
from services.runtime.bounds import FIRST_TOKEN_S
from services.wire.cluster_codec import Cluster

SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
HTTP_S = (0.1, 0.5, 1)
"""As prometheus-fastapi-instrumentator 8.1 has them, by which vLLM counts."""

PROBES = ("/health", "/ready", "/live", "/ping", "/metrics", "/load", "/version")
"""Routes that no HTTP figures count, as in vLLM: they are asked to watch the gateway, not to use it."""

ANSWERS = ("/v1/completions", "/v1/chat/completions")
FAILURES = ("429", "500", "503")


class Metrics:
    """Every metric of one gateway; the labelled ones are resolved once."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.predicted_first_token = Histogram(
            "moonpool_gateway_predicted_ttft_seconds",
            "What was predicted of the same requests, when they were placed.",
            buckets=FIRST_TOKEN_S,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "moonpool_gateway_requests_waiting",
            "Sequences of this gateway before their first token.",
            registry=self.registry,
        )
        self.running = Gauge(
            "moonpool_gateway_requests_running",
            "Sequences of this gateway after their first token.",
            registry=self.registry,
        )
        self.accounts_lost = Counter(
            "moonpool_gateway_accounts_lost",
            "Messages that tell a worker what to count, and did not reach it.",
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
        self._http_requests = Counter(
            "http_requests", "HTTP requests, but for probes.", ["handler", "method", "status"], registry=self.registry
        )
        self._http_seconds = Histogram(
            "http_request_duration_seconds",
            "How long they took, streams to their ends.",
            ["method", "handler"],
            buckets=HTTP_S,
            registry=self.registry,
        )
        self._refused = Counter(
            "moonpool_gateway_refused",
            "Requests that no endpoint has, or that came to none, and connections closed instead of one, by status.",
            ["status"],
            registry=self.registry,
        )
        self.connections = Gauge("moonpool_gateway_connections", "Open connections of clients.", registry=self.registry)
        self.placements = Counter(
            "moonpool_gateway_placements",
            "Placements, by whether another worker was to prefill, and why.",
            ["decision"],
            registry=self.registry,
        )
        words = "Sequences that {} what was promised, by promise: ttft (from arrival) or tpot (the mean)."
        self._met = Counter("moonpool_slo_met", words.format("got"), ["slo"], registry=self.registry)
        self._missed = Counter("moonpool_slo_missed", words.format("did not get"), ["slo"], registry=self.registry)
        # There from the beginning: of a series that is born at its first event, no rate sees that event.
        for slo in ("ttft", "tpot"):
            self._met.labels(slo)
            self._missed.labels(slo)
        for endpoint in ANSWERS:
            for status in FAILURES:
                self.requests.labels(endpoint, status)
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

    def exchanged(self, handler: str, method: str, status: str, seconds: float) -> None:
        """One HTTP exchange is over. handler: its route, "none" where there is none. status: such as 2xx."""
        if handler not in PROBES:
            self._http_requests.labels(handler, method, status).inc()
            self._http_seconds.labels(method, handler).observe(seconds)

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

    def refused(self, status: int) -> None:
        """An answer with this status was given before any endpoint had a request."""
        self._refused.labels(str(status)).inc()

    def promised(self, slo: str, promise_s: float, got_s: float) -> None:
        """What one sequence got of what held for it; inf: nothing was promised, or nothing came."""
        if promise_s < inf:
            (self._met if got_s <= promise_s else self._missed).labels(slo).inc()

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)

    def _plain(self, name: str, words: str) -> Histogram:
        return Histogram(name, words, buckets=SHORT_S, registry=self.registry)


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
