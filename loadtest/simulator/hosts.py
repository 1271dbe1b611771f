"""The hosts of a simulated cluster, put together: workers and stores, as its spec wants them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.catalog import Catalog
from kvstore.eviction import policy
from kvstore.layout import PAGE_BYTES, Identity, KvLayout
from loadtest.simulator.events import Events
from loadtest.simulator.links import Links
from loadtest.simulator.spec import Spec
from loadtest.simulator.store import Ssd, Store
from loadtest.simulator.worker import Worker
from scheduler.vocabulary import Role, StoreId, WorkerId


@dataclass(frozen=True, slots=True)
class Hosts:
    """In the order in which faults count them: prefill, decode, mixed."""

    identity: Identity
    workers: dict[WorkerId, Worker]
    stores: dict[StoreId, Store]


def hosts(spec: Spec, events: Events, links: Links) -> Hosts:
    machine, layout = spec.machine, KvLayout(spec.block_tokens, (spec.block_bytes,), "simulated")
    weights = hashlib.sha256(machine.name.encode()).hexdigest()
    identity = Identity(machine.name, weights, "simulated", spec.block_tokens, layout.digest)
    workers: dict[WorkerId, Worker] = {}
    stores: dict[StoreId, Store] = {}
    for role, number in ((Role.PREFILL, spec.prefill), (Role.DECODE, spec.decode), (Role.MIXED, spec.mixed)):
        for place in range(number):
            home, name = spec.home(role, place), WorkerId(f"{role} {place}")
            if home not in stores:
                stores[home] = _store(spec, home, identity, layout, stores, events, links)
            workers[name] = _worker(spec, name, role, stores[home], identity, events, links)
    return Hosts(identity, workers, stores)


def _store(
    spec: Spec,
    name: StoreId,
    identity: Identity,
    layout: KvLayout,
    stores: Mapping[StoreId, Store],
    events: Events,
    links: Links,
) -> Store:
    return Store(
        name,
        lambda: Catalog(policy=policy(spec.eviction), disk_policy=policy(spec.eviction)),
        events=events,
        links=links,
        stores=stores,
        identity=identity,
        layout=layout,
        slots=spec.store_bytes // layout.slot_bytes,
        ssd=Ssd(events, spec.machine.ssd_bytes_per_s) if spec.ssd_bytes else None,
        ssd_slots=spec.ssd_bytes // (layout.slot_bytes + PAGE_BYTES),
    )


def _worker(
    spec: Spec, name: WorkerId, role: Role, store: Store, identity: Identity, events: Events, links: Links
) -> Worker:
    return Worker(
        name,
        role,
        store,
        spec.machine,
        spec.limits(role),
        events=events,
        links=links,
        identity=identity,
        coasting=spec.coasting,
        private=spec.coupled is not None,
        device_cache=spec.coupled is None or spec.coupled.prefix_cache,
        disturbed=spec.disturbed,
    )
