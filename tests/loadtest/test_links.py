"""Links whose bandwidth is shared between transfers."""

from random import Random

import pytest

from loadtest.simulator.events import Events
from loadtest.simulator.links import Links
from scheduler.vocabulary import StoreId


class World:
    """Links of 100 bytes a second, and when each transfer ended."""

    def __init__(self, latency_s: float = 0.0, **slow: float) -> None:
        self.events = Events()
        rates = {StoreId(host): rate for host, rate in slow.items()}
        self.links = Links(self.events, bytes_per_s=100.0, latency_s=latency_s, slow=rates)
        self.ended: dict[str, float] = {}

    def send(self, name: str, source: str, target: str, size_bytes: int, *, at_s: float = 0.0) -> None:
        def done() -> None:
            self.ended[name] = self.events.now

        self.events.at(at_s, lambda: self.links.send(source, target, size_bytes, done))

    def run(self) -> dict[str, float]:
        self.events.run()
        return self.ended


def test_a_transfer_alone_has_the_whole_link() -> None:
    world = World(latency_s=0.5)
    world.send("x", "a", "b", 200)

    assert world.run() == {"x": 2.5}


def test_within_a_host_nothing_is_carried() -> None:
    world = World(latency_s=0.5)
    world.send("x", "a", "a", 200, at_s=3.0)

    assert world.run() == {"x": 3.0}
    assert world.links.carried_bytes == 0


def test_two_that_leave_one_host_share_its_link() -> None:
    world = World()
    world.send("x", "a", "b", 100)
    world.send("y", "a", "c", 200)

    assert world.run() == pytest.approx({"x": 2.0, "y": 3.0})


def test_two_that_come_to_one_host_share_its_link() -> None:
    world = World()
    world.send("x", "a", "c", 100)
    world.send("y", "b", "c", 100)

    assert world.run() == pytest.approx({"x": 2.0, "y": 2.0})


def test_both_directions_and_other_pairs_are_independent() -> None:
    world = World()
    for name, source, target in [("x", "a", "b"), ("y", "b", "a"), ("z", "c", "d")]:
        world.send(name, source, target, 100)

    assert world.run() == pytest.approx({"x": 1.0, "y": 1.0, "z": 1.0})


def test_one_that_comes_later_slows_the_one_under_way_from_then_on() -> None:
    world = World()
    world.send("x", "a", "b", 300)
    world.send("y", "a", "b", 100, at_s=1.0)

    assert world.run() == pytest.approx({"x": 4.0, "y": 3.0})


def test_no_link_carries_more_than_it_can() -> None:
    world = World()
    for place in range(20):
        world.send(str(place), f"from {place % 3}", f"to {place % 4}", 50 + 13 * place, at_s=place / 7)

    ended = world.run()

    assert len(ended) == 20
    for host in range(4):
        mine = [place for place in range(20) if place % 4 == host]
        assert max(ended[str(place)] for place in mine) >= sum(50 + 13 * place for place in mine) / 100.0


def test_a_receiver_knows_what_came_and_what_that_would_have_taken_alone() -> None:
    world = World(latency_s=0.5)
    world.send("x", "a", "c", 100)
    world.send("y", "b", "c", 200)
    world.run()

    came = world.links.came("c")
    assert {source: flowed.size_bytes for source, flowed in came.items()} == {"a": 100, "b": 200}
    assert {source: flowed.seconds for source, flowed in came.items()} == pytest.approx({"a": 1.0, "b": 2.0})
    assert world.links.came("c") == {}, "told once"
    assert world.links.came("a") == {}


def test_what_is_on_its_way_is_told_as_far_as_it_has_come() -> None:
    world, told = World(), []
    world.send("x", "a", "c", 300)
    world.send("y", "a", "d", 100)
    for at_s in (1.0, 2.5, 9.0):
        world.events.at(at_s, lambda: told.append(world.links.came("c")["a"]))
    world.run()

    assert [each.size_bytes for each in told] == [50, 100, 150]
    assert [each.seconds for each in told] == pytest.approx([0.5, 1.0, 1.5])
    assert world.ended == pytest.approx({"x": 4.0, "y": 2.0}), "who is asked is not slowed down"


def test_however_transfers_meet_each_takes_alone_what_the_slower_link_takes() -> None:
    rng, world = Random(1), World(s=10.0)
    hosts = "sabcd"
    for place in range(60):
        source, target = rng.sample(hosts, 2)
        world.send(str(place), source, target, rng.randrange(1, 400), at_s=20 * rng.random())
    world.run()

    assert len(world.ended) == 60
    for target in hosts:
        for source, flowed in world.links.came(target).items():
            if "s" not in (source, target):
                assert flowed.seconds == pytest.approx(flowed.size_bytes / 100.0)
            else:  # the fast end divides its time among more than the slow one notices
                assert 0.0 < flowed.seconds <= flowed.size_bytes / 10.0 + 1e-6


def test_a_slow_host_is_slow_both_ways() -> None:
    world = World(s=10.0)
    for at_s, (name, source, target) in enumerate([("x", "s", "a"), ("y", "a", "s"), ("z", "a", "b")]):
        world.send(name, source, target, 100, at_s=50.0 * at_s)

    assert world.run() == pytest.approx({"x": 10.0, "y": 60.0, "z": 101.0})
    assert world.links.came("a")["s"].seconds == pytest.approx(10.0)
    assert world.links.came("b")["a"].seconds == pytest.approx(1.0)


def test_a_link_without_bandwidth_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        World(s=0.0)
