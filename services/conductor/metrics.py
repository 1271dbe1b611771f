"""The conductor's metrics, read from its snapshot when they are asked for."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from scheduler.conductor import Conductor
from scheduler.snapshot import ClusterSnapshot
from scheduler.vocabulary import Decision, Role


class ConductorCollector:
    """A collector for one registry."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def collect(self) -> Iterator[Metric]:
        snapshot = self._conductor.snapshot()
        yield CounterMetricFamily(
            "moonpool_handoffs", "Requests that moved from a prefill worker to a decode worker", snapshot.handoffs
        )
        placements = CounterMetricFamily(
            "moonpool_placements", "Placements: handed over, or inline, and why", labels=["decision"]
        )
        for decision in Decision:
            placements.add_metric([decision.value], snapshot.decisions.get(decision, 0))
        yield placements
        yield CounterMetricFamily(
            "moonpool_refused_late", "Requests that were refused for being later than promised", snapshot.refused
        )
        yield CounterMetricFamily(
            "moonpool_replications_ordered", "Hot prefixes that a store was told to fetch", snapshot.copies_ordered
        )
        yield CounterMetricFamily(
            "moonpool_replications_done", "Hot prefixes that such a store then held", snapshot.copies_done
        )
        yield CounterMetricFamily(
            "moonpool_prefills_wasted",
            "Prefills of requests that were refused when they had ended, of those refused late",
            snapshot.prefills_wasted,
        )
        yield CounterMetricFamily(
            "moonpool_drifts", "Digests of a store's names that were not what was believed of it", snapshot.drifts
        )
        yield CounterMetricFamily(
            "moonpool_role_changes", "Workers that were told to take the other role", snapshot.role_changes
        )
        yield from _predictions(snapshot)
        yield from _paces(snapshot)
        workers = GaugeMetricFamily("moonpool_workers", "Live workers", labels=["role"])
        count = Counter(worker.role for worker in snapshot.workers)
        for role in Role:  # 0, too: an alert can't see what is not there
            workers.add_metric([role.value], count[role])
        yield workers
        yield GaugeMetricFamily(
            "moonpool_degraded",
            "1 while one role has no worker and the other does its work",
            snapshot.degraded is not None,
        )
        yield GaugeMetricFamily("moonpool_stores", "Live stores", len(snapshot.stores))


def _predictions(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    ratio = GaugeMetricFamily(
        "moonpool_prediction_ratio",
        "Measured over predicted, the geometric mean of recent requests, by promise",
        labels=["slo"],
    )
    error = GaugeMetricFamily(
        "moonpool_prediction_error",
        "How far predictions are off: the mean of |measured - predicted| / predicted, by promise",
        labels=["slo"],
    )
    bound = GaugeMetricFamily(
        "moonpool_prediction_bound", "What admission multiplies predictions by, by promise", labels=["slo"]
    )
    for slo, told in (("ttft", snapshot.accuracy.ttft), ("tpot", snapshot.accuracy.tpot)):
        bound.add_metric([slo], told.bound)
        _add(ratio, error, slo, told.ratio, told.error)
    yield from (ratio, error, bound)


def _paces(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    """Of links and SSDs, and how well they were predicted, as far as something was measured."""
    paces = GaugeMetricFamily(
        "moonpool_store_pace_bytes_per_second",
        "What a store sends, receives, and reads from its SSD alone, as believed: as told until it is measured",
        labels=["store", "way"],
    )
    for pace in snapshot.paces:
        for way in ("sends", "receives", "reads"):
            paces.add_metric([pace.store, way], getattr(pace, way))
    yield paces
    ratio = GaugeMetricFamily(
        "moonpool_pace_ratio",
        "Measured over predicted seconds of what stores have carried, geometric mean of recent reports: links, SSDs",
        labels=["of"],
    )
    error = GaugeMetricFamily(
        "moonpool_pace_error",
        "How far these predictions are off: the mean of |measured - predicted| / predicted",
        labels=["of"],
    )
    for of, told in (("links", snapshot.accuracy.links), ("disks", snapshot.accuracy.disks)):
        _add(ratio, error, of, told.ratio, told.error)
    yield from (ratio, error)


def _add(
    ratios: GaugeMetricFamily, errors: GaugeMetricFamily, of: str, ratio: float | None, error: float | None
) -> None:
    """Where something was measured."""
    if ratio is not None and error is not None:
        ratios.add_metric([of], ratio)
        errors.add_metric([of], error)
