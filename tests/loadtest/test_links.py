"""Links whose bandwidth is shared between transfers."""

import pytest

from loadtest.simulator.events import Events
from loadtest.simulator.links import Links


class World:
    """Links of 100 bytes a second, and when each transfer ended."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.events = Events()
        self.links = Links(self.events, bytes_per_s=100.0, latency_s=latency_s)
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
