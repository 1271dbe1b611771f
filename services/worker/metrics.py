"""A worker's metrics, under vLLM's names where it has them, in a registry of its own.

Counters and histograms are told; gauges are read from the batcher when asked for. What is about whole requests is in
request_metrics.py. No other process has metrics of vLLM's names: their sums are right whatever else is scraped.
"""

from collections.abc import Callable, Iterator, Mapping
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from kvstore.device import DeviceBlocks
from scheduler.progress import BatcherSnapshot, Progress
from scheduler.sequence import Running
from services.worker.request_metrics import RequestMetrics

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
SLACK = (-30.0, -10.0, -5.0, -2.5, -1.0, -0.5, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STEP_TOKENS = tuple(float(2**power) for power in range(15))

ENGINE = "0"
"""vLLM's label for the data-parallel rank within one server. A worker is a server of its own, with one engine."""

SLEEP_STATES = {"awake": 1, "weights_offloaded": 0, "discard_all": 0}
"""A worker that serves is awake; vLLM's boards read from this whether a model is up."""


class WorkerMetrics:
    """Labels: vLLM's model_name and engine, and the worker's role."""

    def __init__(self, model_name: str, role: str, *, max_model_len: int) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._labels = {"model_name": model_name, "engine": ENGINE, "role": role}
        self.requests = RequestMetrics(self.registry, self._labels, max_model_len=max_model_len)
        self._queue_s = self._histogram("moonpool_worker_queue_seconds", "Arrival here to the first chunk", SECONDS)
        self._prefill_s = self._histogram("moonpool_worker_prefill_seconds", "First chunk to the first token", SECONDS)
        self._sampled = self._counter("moonpool_worker_tokens_sampled", "Tokens sampled, also beyond a client's end")
        self._slack_s = self._histogram(
            "moonpool_first_token_slack_seconds", "Left of what was promised, at the first token; below 0: late", SLACK
        )
        self._step_tokens = self._histogram("vllm:iteration_tokens_total", "Tokens computed in a step", STEP_TOKENS)
        self._step_s = self._histogram("moonpool_step_seconds", "A step, lowers included", SECONDS)
        self._lifted = self._counter("moonpool_blocks_lifted", "Blocks copied from the arena to the device")
        self._lifts_lost = self._counter("moonpool_lifts_lost", "Requests that compute what they could not lift")
        self._pushes_unanswered = self._counter("moonpool_pushes_unanswered", "First tokens given without a push")
        self._published = self._counter("moonpool_blocks_published", "Blocks copied from the device to the arena")
        self._not_published = self._counter("moonpool_blocks_not_published", "Blocks not kept: too many at a time")
        self._handed_over = self._counter("moonpool_handoffs_received", "Streams that came from a prefill worker")
        self._missing = self._counter("moonpool_handoff_blocks_missing", "Blocks of handoffs that were computed anew")
        self._refused = Counter(
            "moonpool_requests_refused", "Requests refused", [*self._labels, "reason"], registry=self.registry
        )

    def watch(
        self, snapshot: Callable[[], BatcherSnapshot], device: DeviceBlocks, connected: Callable[[], bool]
    ) -> None:
        """Read these gauges from now on."""
        self.registry.register(_State(self._labels, snapshot, device, connected))

    def progressed(self, progress: Progress, sequence: Running) -> None:
        """One token was given out."""
        if progress.first is not None:
            self._queue_s.observe(progress.first.queue_s)
            self._prefill_s.observe(progress.first.prefill_s)
            slack_s = sequence.urgency.ttft_left_s - progress.first.queue_s - progress.first.prefill_s
            if slack_s < inf and not sequence.handed_over:
                self._slack_s.observe(slack_s)

    def stepped(self, seconds: float, *, tokens: int, sampled: int) -> None:
        self._step_s.observe(seconds)
        self._step_tokens.observe(tokens)
        self._sampled.inc(sampled)

    def refused(self, reason: str) -> None:
        self._refused.labels(**self._labels, reason=reason).inc()

    def configured(self, **config: object) -> None:
        """The device's cache, as vLLM tells it: a gauge that is 1, with the values as labels."""
        told = {key: str(value) for key, value in config.items()}
        told |= {"enable_prefix_caching": "True", "prefix_caching_hash_algo": "sha256", "engine": ENGINE}
        Gauge("vllm:cache_config_info", "The device's cache of this worker", list(told), registry=self.registry).labels(
            **told
        ).set(1)

    def handed_over(self, missing_blocks: int) -> None:
        self._handed_over.inc()
        self._missing.inc(missing_blocks)

    def blocks_lifted(self, blocks: int) -> None:
        self._lifted.inc(blocks)

    def lift_lost(self) -> None:
        self._lifts_lost.inc()

    def push_unanswered(self) -> None:
        self._pushes_unanswered.inc()

    def blocks_published(self, blocks: int) -> None:
        self._published.inc(blocks)

    def blocks_not_published(self, blocks: int) -> None:
        self._not_published.inc(blocks)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(name, words, list(self._labels), registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(name, words, list(self._labels), buckets=buckets, registry=self.registry)
        return made.labels(**self._labels)


class _State:
    """What is running, waiting and held right now."""

    def __init__(
        self,
        labels: dict[str, str],
        snapshot: Callable[[], BatcherSnapshot],
        device: DeviceBlocks,
        connected: Callable[[], bool],
    ) -> None:
        self._labels = labels
        self._snapshot = snapshot
        self._device = device
        self._connected = connected

    def collect(self) -> Iterator[Metric]:
        snapshot, device = self._snapshot(), self._device
        yield self._gauge("vllm:num_requests_running", "Sequences in the batch", snapshot.running)
        yield self._gauge("vllm:num_requests_waiting", "Sequences queued or loading", snapshot.waiting)
        yield self._gauges(
            "vllm:num_requests_waiting_by_reason",
            "Of these, for a seat or blocks (capacity), or for KV from the store or a prefill worker (deferred)",
            "reason",
            {"capacity": snapshot.waiting - snapshot.loading, "deferred": snapshot.loading},
        )
        yield self._gauges(
            "vllm:num_requests_kv_fetch_by_stage",
            "Sequences that wait for KV; they are never seen before they load, nor after",
            "stage",
            {"waiting_to_start": 0, "in_progress": snapshot.loading, "completed_waiting": 0},
        )
        yield self._gauges("vllm:engine_sleep_state", "Always awake", "sleep_state", SLEEP_STATES)
        used = (device.total - device.free) / device.total
        yield self._gauge("vllm:kv_cache_usage_perc", "Share of device blocks in use, 0 to 1", used)
        preemptions = CounterMetricFamily("vllm:num_preemptions", "Sequences set back", labels=list(self._labels))
        preemptions.add_metric(list(self._labels.values()), snapshot.preemptions)
        yield preemptions
        blocks = {"pinned": device.pinned, "cached": device.cached, "unused": device.free - device.cached}
        yield self._gauges("moonpool_device_blocks", "Device blocks by state", "state", blocks)
        yield self._gauge("moonpool_store_connected", "Whether there is a session with the store", self._connected())

    def _gauge(self, name: str, words: str, value: float) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, words, labels=list(self._labels))
        gauge.add_metric(list(self._labels.values()), value)
        return gauge

    def _gauges(self, name: str, words: str, by: str, values: Mapping[str, float]) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, words, labels=[*self._labels, by])
        for value, number in values.items():
            gauge.add_metric([*self._labels.values(), value], number)
        return gauge
