"""The store's metrics: counters of what it was asked, gauges read from the catalog when asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import assert_never

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvstore.catalog import Catalog
from kvstore.vocabulary import Allocation, Held, Refused, Write, Writing


class StoreMetrics:
    """Everything one store counts, in a registry of its own."""

    def __init__(self, catalog: Catalog) -> None:
        self.registry = CollectorRegistry()
        self._asked = CounterMetric(
            "moonpool_store_blocks_asked",
            "Blocks that workers asked to write, by answer",
            ["answer"],
            registry=self.registry,
        )
        self._sealed = CounterMetric("moonpool_store_blocks_sealed", "Blocks sealed", registry=self.registry)
        self.registry.register(CatalogCollector(catalog))

    def allocated(self, grants: Sequence[Allocation]) -> None:
        for answer, count in Counter(map(_word, grants)).items():
            self._asked.labels(answer).inc(count)

    def sealed(self, results: Sequence[bool]) -> None:
        self._sealed.inc(sum(results))


class CatalogCollector:
    """Counts of slots, leases and sessions as they are now."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def collect(self) -> Iterator[Metric]:
        snapshot = self._catalog.snapshot()
        slots = GaugeMetricFamily("moonpool_store_slots", "Slots of the arena, by state", labels=["state"])
        slots.add_metric(["free"], snapshot.free)
        slots.add_metric(["writing"], snapshot.writing)
        slots.add_metric(["sealed"], snapshot.sealed)
        yield slots
        yield GaugeMetricFamily("moonpool_store_leases", "Leases held by workers", snapshot.leases)
        yield GaugeMetricFamily("moonpool_store_evictable_slots", "Sealed slots that nobody leases", snapshot.evictable)
        yield GaugeMetricFamily("moonpool_store_waiting_acquires", "Reads that wait for a writer", snapshot.waiting)
        sessions = GaugeMetricFamily("moonpool_store_sessions", "Sessions of workers, by state", labels=["state"])
        sessions.add_metric(["live"], len(snapshot.sessions))
        sessions.add_metric(["set_aside"], len(snapshot.set_aside))
        yield sessions
        yield CounterMetricFamily("moonpool_store_blocks_evicted", "Blocks evicted to make room", snapshot.evicted)


def _word(grant: Allocation) -> str:
    match grant:
        case Write():
            return "write"
        case Held():
            return "held"
        case Writing():
            return "writing"
        case Refused():
            return "refused"
        case _:
            assert_never(grant)
