"""Every metric of every process, read from the very objects that a process makes, with nothing behind them."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from kvstore.catalog import Catalog
from kvstore.device import DeviceBlocks
from scheduler.conductor import Conductor
from scheduler.progress import BatcherSnapshot
from services.conductor.metrics import ConductorCollector
from services.gateway.metrics import Metrics
from services.store.metrics import StoreMetrics
from services.worker.metrics import WorkerMetrics

FOREIGN = ("process_", "python_")
"""Prometheus's own metrics of any Python process; they differ from machine to machine."""

SUFFIXES = {"counter": "_total", "info": "_info"}
"""What the exposition format adds to a name."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def metrics() -> dict[str, list[MetricRow]]:
    """By process, sorted by name."""
    return {process: sorted(_rows(registry), key=lambda row: row.name) for process, registry in _registries().items()}


def _registries() -> dict[str, CollectorRegistry]:
    conductor = CollectorRegistry()
    conductor.register(ConductorCollector(Conductor()))
    worker = WorkerMetrics("model", "decode", max_model_len=1)
    worker.configured(block_size=1, num_gpu_blocks=1, cache_dtype="bfloat16")
    empty = BatcherSnapshot(0, 0, 0, 0, 0, (), 0)
    worker.watch(lambda: empty, DeviceBlocks(1), lambda: False)
    gateway = Metrics()
    gateway.watch(lambda: None)
    return {
        "gateway": gateway.registry,
        "conductor": conductor,
        "worker": worker.registry,
        "store": StoreMetrics(Catalog()).registry,
    }


def _rows(registry: CollectorRegistry) -> Iterator[MetricRow]:
    # The library tells labels only with samples, and what was never counted has none; so they are read from inside.
    for collector in list(registry._collector_to_names):
        for metric in collector.collect():
            labels = getattr(collector, "_labelnames", None) or getattr(metric, "_labelnames", None) or ()
            if not metric.name.startswith(FOREIGN):
                name = metric.name + SUFFIXES.get(metric.type, "")
                yield MetricRow(name, metric.type, tuple(labels), " ".join(metric.documentation.split()))
