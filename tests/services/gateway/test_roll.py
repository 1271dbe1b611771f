"""Who is missed, and for how long."""

from scheduler.vocabulary import Role
from services.gateway.roll import BLINK_S, MISSED_S, Roll
from services.wire.cluster_codec import Cluster
from tests.services.gateway.fakes.store import FakeStore
from tests.services.gateway.fakes.worker import FakeWorker


def cluster(*names: str, draining: bool = False, stores: tuple[str, ...] = ()) -> Cluster:
    workers = [FakeWorker(name, "unix:/x", Role.DECODE) for name in names]
    for worker in workers:
        worker.draining = draining
    reports = tuple(worker.report() for worker in workers)
    held = tuple(FakeStore(name).report() for name in stores)
    return Cluster("conductor-0", 1, None, 0, reports, held, {})


def gone(roll: Roll, now: float) -> dict[str, float]:
    return {each.id: each.for_s for each in roll.gone(now=now)}


def test_whoever_vanishes_is_missed_until_it_is_back() -> None:
    roll = Roll()
    roll.call(cluster("a", "b", stores=("s",)), now=0.0)
    roll.call(cluster("a"), now=5.0)
    assert gone(roll, 5.0) == {"b": 5.0, "store-0": 5.0}
    assert [each.role for each in roll.gone(now=5.0)] == ["decode", "store"]
    roll.call(cluster("a", "b", stores=("s",)), now=6.0)
    assert gone(roll, 6.0) == {}


def test_whoever_took_its_leave_is_not_missed() -> None:
    roll = Roll()
    roll.call(cluster("a"), now=0.0)
    roll.call(cluster("a", draining=True), now=1.0)
    roll.call(cluster(), now=9.0)
    assert gone(roll, 9.0) == {}


def test_nobody_is_missed_for_a_blink_nor_for_ever() -> None:
    roll = Roll()
    roll.call(cluster("a"), now=0.0)
    assert gone(roll, BLINK_S / 2) == {}
    roll.call(cluster(), now=MISSED_S - 1.0)
    assert gone(roll, MISSED_S - 1.0) == {"a": MISSED_S - 1.0}
    roll.call(cluster(), now=MISSED_S)
    assert gone(roll, MISSED_S) == {}
