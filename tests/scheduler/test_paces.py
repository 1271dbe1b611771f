"""How fast stores carry: as told, until they have measured it; and whose pace it is."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.beliefs import Beliefs
from scheduler.conductor import Conductor
from scheduler.costs import Costs
from scheduler.journal import Journal, replay
from scheduler.paces import HALF_LIFE_S, MEMORY_S, MOST_SENDERS, SURE_S
from scheduler.vocabulary import Carried, Placement, Role, StoreId
from tests.scheduler.build import ask, names, prompt, store_report, worker_report

A, B, C, D = (StoreId(name) for name in "abcd")
MB = 10**6
TOLD = Costs(link_s=1e-9, ssd_s=2e-9)


class Cluster:
    """Stores that report what they carried, and what is believed of it after each round."""

    def __init__(self, *stores: StoreId, told: Costs = TOLD) -> None:
        self.beliefs = Beliefs(report_ttl_s=1.5, costs=told)
        self.stores, self.now, self.sequence = list(stores), 0.0, 0
        self.round()

    def round(self, *carried: tuple[StoreId | None, StoreId, int, float], after_s: float = 0.1) -> None:
        """Everybody reports; of these (source, target, bytes, seconds) the targets."""
        self.now += after_s
        self.sequence += 1
        for store in self.stores:
            told = [Carried(source, size, seconds) for source, target, size, seconds in carried if target == store]
            report = store_report(store, sequence=self.sequence, snapshot=True, transfer=True, carried=told)
            self.beliefs.store_reported(report, now=self.now)
        self.beliefs.expire(now=self.now)

    def carry(self, source: StoreId | None, target: StoreId, byte_s: float, *, rounds: int = 1) -> None:
        """A tenth of a second of nothing else, in each of so many rounds."""
        for _ in range(rounds):
            self.round((source, target, int(0.1 / byte_s), 0.1))

    def link_s(self, source: StoreId, target: StoreId) -> float:
        return max(self.beliefs.paces.ends(source, target))

    def read_s(self, store: StoreId) -> float:
        table = self.beliefs.store_table
        return float(table.rows["read_byte_s"][table.row(store)])


def test_until_something_is_measured_it_is_as_told() -> None:
    cluster = Cluster(A, B)

    assert cluster.link_s(A, B) == TOLD.link_s
    assert cluster.read_s(A) == TOLD.ssd_s


def test_what_was_carried_for_a_moment_only_changes_nothing_yet() -> None:
    cluster = Cluster(A, B)
    cluster.round((A, B, 10, 0.9 * SURE_S), (None, B, 10, 0.9 * SURE_S))

    assert cluster.link_s(A, B) == TOLD.link_s
    assert cluster.read_s(B) == TOLD.ssd_s
    cluster.round((A, B, 10, 0.9 * SURE_S))
    assert cluster.link_s(A, B) == pytest.approx(0.09 * SURE_S, rel=1e-2)


@pytest.mark.parametrize("wrong", [0.1, 10.0])
def test_a_rate_told_wrongly_is_forgotten_within_a_tenth_of_a_second_of_carrying(wrong: float) -> None:
    cluster = Cluster(A, B)
    cluster.carry(A, B, wrong * TOLD.link_s)
    cluster.carry(None, A, wrong * TOLD.ssd_s)

    assert cluster.link_s(A, B) == pytest.approx(wrong * TOLD.link_s)
    assert cluster.read_s(A) == pytest.approx(wrong * TOLD.ssd_s)
    assert cluster.read_s(B) == TOLD.ssd_s, "one disk says nothing of another"


def test_who_was_never_measured_is_as_most_others_are() -> None:
    cluster = Cluster(A, B, C, D)
    for source, target, byte_s in ((A, B, 4e-9), (A, C, 5e-9), (B, C, 40e-9)):
        cluster.carry(source, target, byte_s)

    assert cluster.link_s(D, D) == pytest.approx(5e-9)
    late = StoreId("e")
    cluster.stores.append(late)
    cluster.round()
    assert cluster.link_s(late, D) == pytest.approx(5e-9)


def test_one_slow_host_is_slow_both_ways_and_nobody_else_is() -> None:
    stores = [StoreId(f"s{number}") for number in range(6)]
    slow = stores[2]
    cluster = Cluster(*stores)
    pairs = [(source, target) for source in stores for target in stores if source != target]
    cluster.round(*((*pair, 30 * MB if slow in pair else 100 * MB, 0.3 if slow in pair else 0.1) for pair in pairs))

    for pair in pairs:
        assert cluster.link_s(*pair) == pytest.approx(1e-8 if slow in pair else 1e-9), pair


def test_who_has_met_only_a_host_that_is_slow_with_everybody_is_not_blamed_for_it() -> None:
    stores = [StoreId(f"s{number}") for number in range(6)]
    slow, sender, receiver = stores[:3]
    cluster = Cluster(*stores)
    fast = [(source, target) for source in stores[3:] for target in stores[3:] if source != target]
    met = [(sender, slow), (slow, receiver), (stores[3], slow), (slow, stores[4])]
    cluster.round(*((*pair, 100 * MB, 0.1) for pair in fast), *((*pair, 30 * MB, 0.3) for pair in met))

    assert cluster.link_s(sender, receiver) == pytest.approx(1e-9)
    assert cluster.link_s(sender, stores[5]) == pytest.approx(1e-9)
    assert cluster.link_s(sender, slow) == pytest.approx(1e-8)
    assert cluster.link_s(slow, receiver) == pytest.approx(1e-8)


def test_a_store_that_has_heard_of_the_slow_one_only_is_cleared_by_the_first_other() -> None:
    cluster = Cluster(A, B, C)
    cluster.carry(A, B, 1e-8)
    cluster.carry(A, C, 1e-8)
    assert cluster.link_s(C, B) == pytest.approx(1e-8)
    cluster.carry(C, B, 1e-9)

    assert cluster.link_s(C, B) == pytest.approx(1e-9)
    assert cluster.link_s(A, B) == pytest.approx(1e-8)


def test_a_link_that_becomes_slower_or_faster_is_known_for_it_after_some_seconds_of_carrying() -> None:
    cluster = Cluster(A, B)
    cluster.carry(A, B, 1e-9, rounds=100)
    cluster.carry(A, B, 4e-9, rounds=100)
    assert cluster.link_s(A, B) == pytest.approx(4e-9, rel=0.3)
    cluster.carry(A, B, 1e-9, rounds=100)
    assert cluster.link_s(A, B) == pytest.approx(1e-9, rel=0.1)


def test_what_a_conductor_that_was_away_is_told_at_once_weighs_no_more_than_its_memory() -> None:
    cluster = Cluster(A, B)
    cluster.round((A, B, 3600 * 10**8, 3600.0))
    assert cluster.link_s(A, B) == pytest.approx(1e-8)
    cluster.carry(A, B, 1e-9, rounds=round(30 * MEMORY_S))

    assert cluster.link_s(A, B) == pytest.approx(1e-9, rel=0.1)


def test_what_is_not_measured_any_more_is_as_told_again_in_the_end() -> None:
    cluster = Cluster(A, B)
    cluster.carry(A, B, 1e-7, rounds=100)
    cluster.round(after_s=1.0)
    assert cluster.link_s(A, B) == pytest.approx(1e-7)
    for _ in range(int(9 * HALF_LIFE_S)):
        cluster.round(after_s=1.0)

    assert cluster.link_s(A, B) == TOLD.link_s


@pytest.mark.parametrize("leaver", [A, B])
def test_nothing_is_believed_of_a_store_that_died(leaver: StoreId) -> None:
    cluster = Cluster(A, B, C)
    cluster.carry(A, B, 1e-8)
    cluster.stores.remove(leaver)
    for _ in range(20):
        cluster.round()
    assert len(cluster.beliefs.paces) == 0
    cluster.stores.append(leaver)
    cluster.round()

    assert cluster.link_s(A, B) == TOLD.link_s


def test_nothing_is_believed_of_an_earlier_incarnation() -> None:
    cluster = Cluster(A, B)
    cluster.carry(A, B, 1e-8)
    cluster.carry(None, A, 1e-8)
    cluster.beliefs.store_reported(store_report(A, incarnation=2, snapshot=True), now=cluster.now)
    cluster.beliefs.expire(now=cluster.now)

    assert cluster.link_s(A, B) == TOLD.link_s
    assert cluster.read_s(A) == TOLD.ssd_s


def test_a_report_that_comes_twice_counts_once() -> None:
    cluster = Cluster(A, B)
    report = store_report(B, sequence=9, carried=[Carried(A, 1000, 0.6 * SURE_S)])
    for _ in range(3):
        cluster.beliefs.store_reported(report, now=cluster.now)
    cluster.beliefs.expire(now=cluster.now)

    assert cluster.link_s(A, B) == TOLD.link_s


def test_sources_that_nobody_knows_are_passed_over() -> None:
    cluster = Cluster(A, B)
    cluster.round((StoreId("stranger"), B, MB, 1.0))

    assert len(cluster.beliefs.paces) == 0
    assert cluster.link_s(A, B) == TOLD.link_s


def test_memory_is_bounded_by_the_stores_and_the_best_known_senders_stay() -> None:
    many = [StoreId(f"s{number:03}") for number in range(MOST_SENDERS + 20)]
    cluster = Cluster(*many)
    target = many[0]
    cluster.round((None, target, MB, 0.1), *((source, target, MB, 0.1) for source in many[1 : MOST_SENDERS + 1]))
    cluster.round(*((source, target, MB, 0.05) for source in many[MOST_SENDERS + 1 :]))

    assert len(cluster.beliefs.paces) == MOST_SENDERS + 1
    assert cluster.read_s(target) == pytest.approx(1e-7), "its own SSD is no sender"


carriages = st.lists(
    st.tuples(
        st.none() | st.sampled_from([A, B, C]), st.sampled_from([A, B, C]), st.integers(1, 10**12), st.floats(1e-9, 1e4)
    ),
    max_size=12,
)


@given(st.lists(st.tuples(carriages, st.sampled_from([0.0, 0.1, 1.0, 30.0])), max_size=8))
def test_whatever_is_reported_paces_are_positive_and_within_what_was_told_and_measured(
    rounds: Sequence[tuple[list[tuple[StoreId | None, StoreId, int, float]], float]],
) -> None:
    cluster = Cluster(A, B, C)
    links, disks = [TOLD.link_s], [TOLD.ssd_s]
    for carried, after_s in rounds:
        cluster.round(*carried, after_s=after_s)
        for source, target, size, seconds in carried:
            (disks if source in (None, target) else links).append(seconds / size)
    for target in (A, B, C):
        assert min(disks) * 0.999 <= cluster.read_s(target) <= max(disks) * 1.001
        for source in (A, B, C):
            assert min(links) * 0.999 <= cluster.link_s(source, target) <= max(links) * 1.001


def placed(conductor: Conductor | Journal, *, request: str, length: int = 1600) -> Placement:
    answer = conductor.place(ask(request, length), now=10.0)
    assert isinstance(answer, Placement)
    return answer


def hosts(conductor: Conductor | Journal, carried: Sequence[Carried] = ()) -> None:
    """b prefills and holds nothing; a, whose store holds the prefix, has a long queue."""
    for worker, role, queued in (("a", Role.MIXED, 4000), ("b", Role.MIXED, 0)):
        report = worker_report(worker, role, store=worker, block_bytes=MB, queued=queued)
        conductor.worker_reported(report, now=10.0)
    held = names(prompt(1600))
    conductor.store_reported(store_report(A, snapshot=True, transfer=True, gained=held), now=10.0)
    conductor.store_reported(store_report(B, snapshot=True, transfer=True, carried=carried), now=10.0)
    conductor.tick(now=10.0)


def test_a_prefix_is_fetched_over_a_link_that_was_found_fast_and_computed_behind_a_slow_one() -> None:
    slow, fast = Carried(A, 100 * MB, 1.0), Carried(A, 10_000 * MB, 1.0)
    found = []
    for told, carried in ((1e10, ()), (1e10, [slow]), (1e8, ()), (1e8, [fast])):
        conductor = Conductor(link_bytes_per_s=told)
        hosts(conductor, carried)
        source = placed(conductor, request="r").source
        found.append(source and source.store)

    assert found == [A, None, None, A]


def test_every_prediction_of_a_carriage_is_kept_beside_what_it_took() -> None:
    conductor = Conductor(link_bytes_per_s=1e9, ssd_bytes_per_s=1e9)
    hosts(conductor, [Carried(A, 100 * MB, 0.4), Carried(None, 100 * MB, 0.2)])
    snapshot = conductor.snapshot()

    assert (snapshot.accuracy.links.count, snapshot.accuracy.disks.count) == (1, 1)
    assert snapshot.accuracy.links.ratio == pytest.approx(4.0)
    assert snapshot.accuracy.links.error == pytest.approx(3.0)
    assert snapshot.accuracy.disks.ratio == pytest.approx(2.0)
    paces = {pace.store: (pace.sends, pace.receives, pace.reads) for pace in snapshot.paces}
    assert paces[A] == pytest.approx((2.5e8, 2.5e8, 1e9))
    assert paces[B] == pytest.approx((2.5e8, 2.5e8, 5e8))


def test_what_stores_have_carried_is_part_of_a_journal() -> None:
    journal = Journal(Conductor(link_bytes_per_s=1e10))
    hosts(journal, [Carried(A, 100 * MB, 1.0)])
    for number in range(20):
        placed(journal, request=str(number), length=1600 - 70 * number)

    told = [entry.decision for entry in journal.entries]
    assert [decision for _, decision in replay(journal.entries, Conductor(link_bytes_per_s=1e10))] == told
    assert [decision for _, decision in replay(journal.entries, Conductor(link_bytes_per_s=1e9))] == told, (
        "what was told is no matter once it is measured"
    )
