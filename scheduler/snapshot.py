"""What the conductor believes and has counted, for status pages and tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvstore.layout import Identity
from scheduler.paces import StorePace
from scheduler.predictions import NOTHING_KNOWN, Accuracy
from scheduler.vocabulary import Decision, StoreReport, WorkerReport


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """The reports of stores are without names."""

    identity: Identity | None
    handoffs: int
    workers: tuple[WorkerReport, ...]
    stores: tuple[StoreReport, ...]
    decisions: Mapping[Decision, int] = field(default_factory=dict)
    """How many placements were of each kind."""
    refused: int = 0
    """For being late."""
    accuracy: Accuracy = NOTHING_KNOWN
    role_changes: int = 0
    degraded: str | None = None
    """Why one role does the work of both, if it does."""
    copies_ordered: int = 0
    copies_done: int = 0
    """Of hot prefixes, to stores that nobody waited at."""
    prefills_wasted: int = 0
    """Of requests that were refused when their prefill had ended."""
    drifts: int = 0
    """How often a digest has shown that what was believed of a store was wrong."""
    paces: tuple[StorePace, ...] = ()
    """Of each store, as believed."""
