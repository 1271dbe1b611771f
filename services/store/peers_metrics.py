"""What a store counts of its transfers with others."""

from collections.abc import Iterator
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvstore.transfer import Reason, Transfer
from services.store.peers_allowance import Allowance

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Way(StrEnum):
    """Pushed and served leave this store; taken (of a peer's push) and fetched come to it."""

    PUSHED = "pushed"
    TAKEN = "taken"
    FETCHED = "fetched"
    SERVED = "served"


NO_ROOM, CHECKSUM = "no_room", "checksum"


class TransferMetrics:
    """In the store's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._transfer: Transfer | None = None
        self._allowances: tuple[Allowance, Allowance] | None = None
        self._blocks = Counter(
            "moonpool_store_transfer_blocks",
            "Blocks moved whole between this store and others",
            ["way"],
            registry=registry,
        )
        self._seconds = Histogram(
            "moonpool_store_transfer_seconds",
            "From the beginning of a push or fetch until its last block has arrived",
            ["way"],
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "moonpool_store_transfer_failures",
            "Transfers that lost blocks on the way, by reason",
            ["reason"],
            registry=registry,
        )
        self._refused = Counter(
            "moonpool_store_transfer_blocks_refused",
            "Blocks that came from another store and were not what their checksum says; never served",
            registry=registry,
        )
        self._not_there = Counter(
            "moonpool_store_transfer_blocks_not_there",
            "Blocks asked of another store that did not have them, or not yet or not any more; no failure, so computed",
            registry=registry,
        )
        for way in Way:
            self._blocks.labels(way)
            self._seconds.labels(way)
        for reason in (*(each for each in Reason if each is not Reason.MISSING), NO_ROOM, CHECKSUM):
            self._failures.labels(reason)
        registry.register(self)

    def watch(self, transfer: Transfer, coming: Allowance, going: Allowance) -> None:
        """What bytes and connections are read from."""
        self._transfer, self._allowances = transfer, (coming, going)

    def moved(self, way: Way, blocks: int) -> None:
        self._blocks.labels(way).inc(blocks)

    def took(self, way: Way, seconds: float) -> None:
        self._seconds.labels(way).observe(seconds)

    def failed(self, reason: str) -> None:
        self._failures.labels(reason).inc()

    def not_there(self, blocks: int) -> None:
        self._not_there.inc(blocks)

    def refused(self, blocks: int) -> None:
        self._refused.inc(blocks)

    def collect(self) -> Iterator[Metric]:
        counts = None if self._transfer is None else self._transfer.counts
        moved = CounterMetricFamily(
            "moonpool_store_transfer_bytes", "Bytes of blocks moved between stores", labels=["direction"]
        )
        moved.add_metric(["sent"], counts.bytes_sent if counts else 0)
        moved.add_metric(["received"], counts.bytes_received if counts else 0)
        yield moved
        yield GaugeMetricFamily(
            "moonpool_store_transfer_connections",
            "Connections with other stores, one for each direction",
            counts.connections if counts else 0,
        )
        under_way = GaugeMetricFamily(
            "moonpool_store_transfer_bytes_in_flight",
            "Bytes of blocks that are coming from other stores, or are held for others that fetch them",
            labels=["direction"],
        )
        for index, direction in enumerate(("received", "sent")):
            under_way.add_metric([direction], self._allowances[index].used if self._allowances else 0)
        yield under_way
