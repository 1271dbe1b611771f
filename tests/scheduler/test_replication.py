"""Hot prefixes get the holders that they deserve, ahead of whoever would wait for them; nothing else is copied."""

from dataclasses import replace
from random import Random

import pytest

from kvstore.names import BlockName
from scheduler.beliefs import Beliefs
from scheduler.conductor import Conductor
from scheduler.replication import ASKED, COOL_DOWN_S, KEPT, MOST, MOST_S, SUSTAINED_S, WITHIN_S, Replication
from scheduler.vocabulary import Ask, CopyOrder, Outcome, Placement, Profile, RequestId, Role, StoreId
from tests.scheduler.build import SIZE, names, prompt, store_report, worker_report

HALF_A_SECOND = Profile(prefill_s=(0.5, 0.0, 0.0), step_s=(0.01, 0.0, 0.0))
"""Whatever is cached: ten asks in 30 s keep a sixth of a worker busy."""

CHAIN = names(prompt(8 * SIZE))
OTHERS = [names(prompt(8 * SIZE, start=start)) for start in range(1, 9)]


class Cluster:
    """Prefill workers with a store each, the first of which holds what is asked for."""

    def __init__(self, *held: tuple[BlockName, ...], workers: int = 3, leases: int = 0, **conducted: object) -> None:
        self.conductor = Conductor(report_ttl_s=1000.0, inline_max_tokens=0, **conducted)  # type: ignore[arg-type]
        self.stores = [StoreId(f"s{number}") for number in range(workers)]
        self.now, self.asks = 0.0, 0
        for number, store in enumerate(self.stores):
            report = store_report(store, snapshot=True, transfer=True, gained=[n for it in held for n in it])
            self.conductor.store_reported(
                replace(report, leases=leases if number else 0, gained=() if number else report.gained), now=0
            )
            self.conductor.worker_reported(
                worker_report(f"p{number}", Role.PREFILL, store=store, profile=HALF_A_SECOND), now=0
            )
        self.conductor.store_reported(store_report("sd", snapshot=True, transfer=True), now=0)
        self.conductor.worker_reported(worker_report("d", store="sd", profile=HALF_A_SECOND, seats=1000), now=0)

    def ask(self, chain: tuple[BlockName, ...] = CHAIN, *, count: int = 1, every_s: float = 0.1) -> None:
        """Questions about one text, each served at once and seen to by a tick."""
        for _ in range(count):
            self.asks += 1
            own = BlockName(self.asks.to_bytes(16, "big"))
            request = RequestId(f"{self.asks}")
            ask = Ask(request, (*chain, own), (len(chain) + 1) * SIZE + 1, 10)
            assert isinstance(self.conductor.place(ask, now=self.now), Placement)
            self.conductor.outcome(request, Outcome.CANCELLED, now=self.now)
            self.now += every_s
            self.conductor.tick(now=self.now)

    def pass_s(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.1)):
            self.now += 0.1
            self.conductor.tick(now=self.now)

    def report(self, store: StoreId, gained: tuple[BlockName, ...], sequence: int = 2) -> None:
        self.conductor.store_reported(
            store_report(store, sequence=sequence, gained=gained, transfer=True), now=self.now
        )

    @property
    def orders(self) -> dict[StoreId, tuple[CopyOrder, ...]]:
        everywhere = {store: self.conductor.copies(store) for store in [*self.stores, StoreId("sd")]}
        return {store: orders for store, orders in everywhere.items() if orders}

    @property
    def counts(self) -> tuple[int, int]:
        snapshot = self.conductor.snapshot()
        return snapshot.copies_ordered, snapshot.copies_done


def test_a_prefix_that_keeps_a_worker_busy_gets_a_second_holder() -> None:
    it = Cluster(CHAIN)
    it.ask(count=80)

    ((target, (order,)),) = it.orders.items()
    assert target in it.stores[1:]
    assert (order.names, order.source.store) == (CHAIN, it.stores[0])
    assert it.counts == (1, 0)
    it.report(target, CHAIN)
    it.pass_s(0.2)
    assert it.orders == {}
    assert it.counts == (1, 1)


def test_what_is_asked_for_seldom_or_lasts_shortly_is_not_copied() -> None:
    it = Cluster(CHAIN)
    it.ask(count=int(ASKED) - 1)
    it.pass_s(2 * SUSTAINED_S)
    assert it.counts == (0, 0)
    it.ask(count=60, every_s=0.02)  # a burst, and nothing after it
    assert it.counts == (0, 0)


def test_a_prefix_that_one_worker_can_serve_stays_where_it_is() -> None:
    it = Cluster(CHAIN)
    it.ask(count=100, every_s=2.0)

    assert it.counts == (0, 0)


def test_a_holder_with_a_long_queue_is_relieved_though_the_prefix_is_not_that_hot() -> None:
    it = Cluster(CHAIN)
    busy = worker_report("p0", Role.PREFILL, store="s0", profile=HALF_A_SECOND, sequence=2, waiting=9, queued=900)
    it.conductor.worker_reported(busy, now=0)
    it.ask(count=12, every_s=1.0)

    assert it.counts[0] == 1


def test_between_two_copies_of_a_prefix_it_rests() -> None:
    it = Cluster(CHAIN, workers=5)
    it.ask(count=80)
    (target,) = it.orders
    it.report(target, CHAIN)
    it.ask(count=int(COOL_DOWN_S / 0.2))
    assert it.counts == (1, 1)
    it.ask(count=int(COOL_DOWN_S / 0.1) + 10)
    assert it.counts[0] == 2


def test_a_copy_that_does_not_come_is_given_up_and_may_be_tried_again() -> None:
    it = Cluster(CHAIN)
    while not it.orders:
        it.ask()
    it.pass_s(WITHIN_S + 0.3)
    assert it.orders == {}
    assert it.counts == (1, 0)
    it.ask(count=int(SUSTAINED_S / 0.1) + 2)
    assert it.counts == (2, 0)


def test_nothing_is_copied_to_a_store_under_pressure() -> None:
    under_pressure = Cluster(CHAIN, leases=100 - 4 * len(CHAIN) + 1)
    under_pressure.ask(count=120)
    assert under_pressure.counts == (0, 0)
    roomy = Cluster(CHAIN, leases=100 - 4 * len(CHAIN))
    roomy.ask(count=120)
    assert roomy.counts[0] == 1


def test_few_copies_are_under_way_and_one_at_a_store() -> None:
    it = Cluster(*OTHERS, workers=8)
    for _ in range(60):
        for chain in OTHERS:
            it.ask(chain, every_s=0.02)
        assert sum(map(len, it.orders.values())) <= MOST
        assert all(len(orders) == 1 for orders in it.orders.values())
    assert it.counts[0] == MOST


def test_a_copy_is_on_its_way_for_whoever_is_placed_meanwhile() -> None:
    it = Cluster(CHAIN)
    while not it.orders:
        it.ask()
    (target,) = it.orders
    beliefs = it.conductor._beliefs

    assert beliefs.store_table.rows["receives_s"][beliefs.store_table.row(target)] >= 0.0
    assert [run.store for _, _, run in beliefs.coming.along(CHAIN)] == [target]
    it.pass_s(WITHIN_S + 5.0)
    assert list(beliefs.coming.along(CHAIN)) == []


def test_a_target_that_is_gone_is_forgotten() -> None:
    it = Cluster(CHAIN)
    it.ask(count=80)
    (target,) = it.orders
    it.conductor._beliefs._forget_store(target)
    it.pass_s(0.1)

    assert it.orders == {}


def test_without_replication_nothing_is_copied() -> None:
    it = Cluster(CHAIN, replicate=False)
    it.ask(count=200)

    assert it.counts == (0, 0)


def test_what_is_remembered_is_bounded_and_what_is_hot_is_kept() -> None:
    replication, chance = Replication(), Random(1)
    for number in range(3 * KEPT):
        cold = [BlockName(chance.randbytes(16))]
        replication.asked(cold, 1, 0.1, now=number / 1000)
        if number % 100 == 0:
            replication.asked(CHAIN, len(CHAIN), 0.1, now=number / 1000)

    assert len(replication._heat) == KEPT
    assert list(replication._hot) == [CHAIN[-1]]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_a_copy_goes_from_who_has_it_to_who_has_not(seed: int) -> None:
    chance = Random(seed)
    it = Cluster(*OTHERS[:4], workers=6)
    told = dict.fromkeys(it.stores, 1)
    beliefs: Beliefs = it.conductor._beliefs
    for _ in range(400):
        before = it.counts[0]
        it.ask(chance.choice(OTHERS[:4]), every_s=chance.choice((0.01, 0.1, 0.5)))
        for store, (order, *more) in it.orders.items():
            assert not more
            lengths = beliefs.prefixes.lengths(order.names)
            if it.counts[0] > before and order.id > before:
                assert lengths[order.source.store] == len(order.names)
                assert lengths.get(store, 0) < len(order.names)
            if chance.random() < 0.1:
                told[store] += 1
                it.report(store, order.names, sequence=told[store])
        if chance.random() < 0.02:  # somebody evicts
            store = chance.choice(it.stores[1:])
            told[store] += 1
            lost = store_report(store, sequence=told[store], lost=chance.choice(OTHERS[:4]), transfer=True)
            it.conductor.store_reported(lost, now=it.now)
        ordered, done = it.counts
        assert 0 <= done <= ordered
    assert it.counts[1] > 0


def test_nothing_is_copied_to_who_is_busier_than_the_holder() -> None:
    """Whoever is placed there would wait longer than where the prefix is."""

    def copies(queued: int) -> int:
        it = Cluster(CHAIN)
        for number, tokens in enumerate((900, queued, queued)):
            busy = worker_report(
                f"p{number}",
                Role.PREFILL,
                store=f"s{number}",
                profile=HALF_A_SECOND,
                sequence=2,
                waiting=tokens // 100,
                queued=tokens,
            )
            it.conductor.worker_reported(busy, now=0)
        it.ask(count=12, every_s=1.0)
        return it.counts[0]

    assert copies(900) == 1
    assert copies(2000) == 0


def test_of_a_prefix_that_would_keep_a_link_for_long_the_beginning_is_copied() -> None:
    it = Cluster(CHAIN, link_bytes_per_s=1024 * 3 / MOST_S)
    it.ask(count=80)

    ((order,),) = it.orders.values()
    assert order.names == CHAIN[:3]
