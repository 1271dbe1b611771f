"""The store's metrics: counters of what it was asked, gauges read from the catalog when asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import assert_never

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvstore.catalog import Catalog
from kvstore.vocabulary import Allocation, DiskSnapshot, Held, Hits, Refused, Write, Writing
from services.store.peers_metrics import TransferMetrics
from services.store.ssd_tier import SsdState, SsdTier


class StoreMetrics:
    """Everything one store counts, in a registry of its own."""

    def __init__(self, catalog: Catalog, ssd: SsdTier | None = None) -> None:
        self.registry = CollectorRegistry()
        self._asked = CounterMetric(
            "moonpool_store_blocks_asked",
            "Blocks that workers asked to write, by answer",
            ["answer"],
            registry=self.registry,
        )
        self._sealed = CounterMetric("moonpool_store_blocks_sealed", "Blocks sealed", registry=self.registry)
        self.transfers = TransferMetrics(self.registry)
        self.registry.register(CatalogCollector(catalog))
        self.registry.register(SsdCollector(catalog, ssd))

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
        yield _looked_up(snapshot.hits)


class SsdCollector:
    """The SSD tier as it is now; all zero where there is none."""

    def __init__(self, catalog: Catalog, ssd: SsdTier | None) -> None:
        self._catalog = catalog
        self._ssd = ssd

    def collect(self) -> Iterator[Metric]:
        disk = self._catalog.snapshot().disk or DiskSnapshot(0, 0, 0, 0, 0, None, 0, 0, 0)
        ssd = self._ssd
        state = GaugeMetricFamily(
            "moonpool_store_ssd_state",
            "1 for the state that the SSD tier is in; it goes off by itself",
            labels=["state"],
        )
        for each in SsdState:
            state.add_metric([each], ssd is not None and ssd.state is each)
        yield state
        slots = GaugeMetricFamily("moonpool_store_ssd_slots", "Slots of the SSD file, by state", labels=["state"])
        slots.add_metric(["free"], disk.free)
        slots.add_metric(["writing"], disk.writing)
        slots.add_metric(["held"], disk.held)
        yield slots
        waited_s = 0.0 if ssd is None or disk.oldest_pending is None else ssd.now() - disk.oldest_pending
        for name, words, value in (
            ("pending_blocks", "Sealed blocks that are still to be written to the SSD", disk.pending),
            ("oldest_pending_seconds", "For how long the oldest of them has been waiting", waited_s),
            ("scan_seconds", "What searching the file took at the start", _scanned(ssd)),
        ):
            yield GaugeMetricFamily(f"moonpool_store_ssd_{name}", words, value)
        blocks = CounterMetricFamily(
            "moonpool_store_ssd_blocks", "Blocks written to and read from the SSD", labels=["way"]
        )
        size = CounterMetricFamily("moonpool_store_ssd_bytes", "Bytes of these, with headers", labels=["way"])
        seconds = CounterMetricFamily("moonpool_store_ssd_seconds", "Time of these requests, added up", labels=["way"])
        if ssd is not None:
            for way, traffic in (("written", ssd.written), ("read", ssd.read)):
                blocks.add_metric([way], traffic.blocks)
                size.add_metric([way], traffic.blocks * ssd.slot_bytes)
                seconds.add_metric([way], traffic.seconds)
        yield from (blocks, size, seconds)
        for name, words, value in (
            ("evicted", "Blocks dropped from the SSD to make room", disk.evicted),
            ("torn", "Blocks on the SSD that were not intact when they were read; never served", disk.dropped_torn),
            ("unwritten", "Blocks evicted from memory before they were written", disk.lost_pending),
        ):
            yield CounterMetricFamily(f"moonpool_store_ssd_blocks_{name}", words, value)


def _looked_up(hits: Hits) -> Metric:
    found = CounterMetricFamily(
        "moonpool_store_blocks_looked_up", "Blocks that workers looked up, by where they were found", labels=["tier"]
    )
    for tier in ("dram", "ssd", "peer"):
        found.add_metric([tier], getattr(hits, tier))
    found.add_metric(["none"], hits.asked - hits.dram - hits.ssd - hits.peer)
    return found


def _scanned(ssd: SsdTier | None) -> float:
    return 0.0 if ssd is None or ssd.scan is None else ssd.scan.seconds


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
