"""Each conductor is told every change once, whatever the others were told, or everything anew."""

import random
from collections.abc import Sequence

from kvstore.catalog import Catalog
from kvstore.digest import Digest, digest_of
from kvstore.layout import Identity
from kvstore.names import BlockName
from kvstore.transfer import Came
from kvstore.vocabulary import Changes, SessionId, Write
from scheduler.vocabulary import Carried, Digests, StoreId, StoreReport
from services.store.reports import SOURCES, Ledger, StoreReports
from tests.services.rig import toy

SESSION = SessionId("s")
ENGINE = toy()
IDENTITY = Identity("toy", ENGINE.weights, ENGINE.dtype, ENGINE.layout.block_tokens, ENGINE.layout.digest)


def name(number: int) -> BlockName:
    return BlockName(number.to_bytes(16, "big"))


def catalog(slots: int = 8) -> Catalog:
    made = Catalog()
    made.adopt(IDENTITY, ENGINE.layout, slots)
    made.hello(SESSION, worker="w", incarnation=1, identity=IDENTITY)
    return made


def reports(of: Catalog) -> StoreReports:
    return StoreReports(of, store=StoreId("store-0"), incarnation=3, address="unix:s")


def put(into: Catalog, numbers: Sequence[int]) -> None:
    names = [name(number) for number in numbers]
    grants = into.allocate(SESSION, names, last_is_short=False, hold=False, now=0.0)
    writes = [grant for grant in grants if isinstance(grant, Write)]
    into.seal(SESSION, writes, [0] * len(writes), now=0.0)


def believe(names: set[BlockName], report: StoreReport) -> set[BlockName]:
    return set(report.gained) if report.snapshot else (names - set(report.lost)) | set(report.gained)


def test_the_first_report_is_a_snapshot_and_later_ones_tell_changes() -> None:
    held = catalog()
    source = reports(held)
    ledger = source.ledger()
    put(held, [1, 2])
    first = source.compose(ledger, 1, False)
    assert (first.snapshot, set(first.gained)) == (True, {name(1), name(2)})
    put(held, [3])
    second = source.compose(ledger, 2, False)
    assert (second.snapshot, second.gained, second.lost) == (False, (name(3),), ())
    assert (second.slots_sealed, second.slots_total, second.incarnation) == (3, 8, 3)
    assert source.compose(ledger, 3, False).gained == ()


def test_conductors_that_are_told_at_different_times_come_to_believe_the_same() -> None:
    chance = random.Random(7)
    held = catalog()
    source = reports(held)
    ledgers = [source.ledger(), source.ledger()]
    believed: list[set[BlockName]] = [set(), set()]
    for step in range(300):
        put(held, [chance.randrange(40) for _ in range(2)])
        which = chance.randrange(2)
        report = source.compose(ledgers[which], step, chance.random() < 0.1)
        believed[which] = believe(believed[which], report)
        assert believed[which] == set(held.held_names())
    for which in (0, 1):
        assert believe(believed[which], source.compose(ledgers[which], 999, False)) == set(held.held_names())


def test_every_so_many_reports_tell_the_digests_of_what_all_reports_have_told() -> None:
    chance = random.Random(3)
    held = catalog()
    source = StoreReports(held, store=StoreId("store-0"), incarnation=3, address="unix:s", digest_every=5)
    ledger = source.ledger()
    believed: set[BlockName] = set()
    told = []
    for sequence in range(1, 41):
        put(held, [chance.randrange(40) for _ in range(2)])
        report = source.compose(ledger, sequence, False)
        believed = believe(believed, report)
        if report.digests is not None:
            told.append(sequence)
            assert report.digests == Digests(digest_of(list(believed)), Digest())
    assert told == [5, 10, 15, 20, 25, 30, 35, 40]


def test_a_ledger_that_nobody_empties_is_bounded_and_settled_by_a_snapshot() -> None:
    ledger = Ledger()
    for start in range(0, 200_000, 1000):
        some = tuple(name(number) for number in range(start, start + 1000))
        ledger.add(Changes(some, (), some, ()))
        assert len(ledger.dram) + len(ledger.ssd) <= 65_536
    assert ledger.behind


def test_each_conductor_is_told_once_of_all_that_came_since_it_was_told_before() -> None:
    came: list[Came] = []

    def take() -> tuple[Came, ...]:
        taken = tuple(came)
        came.clear()
        return taken

    source = StoreReports(catalog(), store=StoreId("store-0"), incarnation=3, address="unix:s", came=take)
    often, seldom = source.ledger(), source.ledger()
    told = []
    for number in range(1, 4):
        came.append(Came("store-1", 10 * number, 1.0))
        told.append(source.compose(often, number, False).carried)
    told.append(source.compose(often, 4, True).carried)

    assert told == [*((Carried(StoreId("store-1"), 10 * number, 1.0),) for number in range(1, 4)), ()]
    assert source.compose(seldom, 1, True).carried == (Carried(StoreId("store-1"), 60, 3.0),)
    assert source.ledger().carried == {}, "what was before a conductor is not told to it"


def test_sources_that_nobody_is_told_of_are_bounded() -> None:
    ledger = Ledger()
    for number in range(2 * SOURCES):
        ledger.carry(Carried(StoreId(f"store-{number}"), 1, 1.0))

    assert len(ledger.take_carried()) == SOURCES
    assert ledger.take_carried() == ()
