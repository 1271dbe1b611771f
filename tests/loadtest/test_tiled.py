"""A workload again and again, and simulations that hold only who comes next."""

from itertools import pairwise
from random import Random

import pytest

from loadtest.request import Request
from loadtest.simulator.arrivals import Arrivals
from loadtest.workload import poisson, shared_prefixes
from loadtest.workload.chats import Chat, chats
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from loadtest.workload.tiled import tile_s, tiled
from tests.loadtest.build import simulation, spec

MIX = Mix(prefixes=4, prefix=Lengths(400, 500), question=Lengths(40, 60), answer=Lengths(5, 8))


def mix(number: int = 30) -> list[Request]:
    return shared_prefixes(poisson(20.0, Random(1)), number, MIX, chance=Random(2))


def contents(requests: list[Request]) -> set[int]:
    return {span.content for request in requests for span in (*request.prompt, request.output)}


def test_copies_follow_each_other_and_share_no_content() -> None:
    once = mix()
    copies = list(tiled(once, 3))
    parts = [copies[start : start + len(once)] for start in (0, 30, 60)]

    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(copies))
    assert parts[2][0].at_s == pytest.approx(once[0].at_s + 2 * tile_s(once))
    assert not contents(parts[0]) & contents(parts[1])
    assert [[len(contents([each])) for each in part] for part in parts] == [
        [len(contents([each])) for each in once]
    ] * 3
    for part in parts:  # who shared a prefix does so still
        assert [[each.prompt[0] == other.prompt[0] for other in part] for each in part] == [
            [each.prompt[0] == other.prompt[0] for other in once] for each in once
        ]


def test_a_streamed_workload_gives_the_same_records_as_a_list() -> None:
    listed, streamed = simulation(spec()).run(mix()), simulation(spec()).run(iter(mix()))

    assert listed == streamed
    assert len(listed) == 30


def test_who_follows_another_can_not_be_repeated_nor_streamed() -> None:
    closed = chats(poisson(8.0, Random(2)), 12, Chat(), chance=Random(2))
    with pytest.raises(ValueError, match="can't be repeated"):
        tiled(closed, 2)
    follower = next(each for each in closed if each.after is not None)
    streamed = Arrivals(iter([closed[0], follower]))
    with pytest.raises(AssertionError, match="comes in a sequence"):
        streamed.take()


def test_content_that_has_no_numbers_left_is_refused() -> None:
    with pytest.raises(ValueError, match="more than there are numbers for"):
        tiled(mix(), 1 << 31)


@pytest.mark.slow
def test_a_hundred_workers_serve_twenty_thousand_short_requests() -> None:
    """The small sister of the run of a million that docs/simulator.md tells of."""
    short = Mix(prefixes=20, prefix=Lengths(128, 160), question=Lengths(20, 30), answer=Lengths(4, 6))
    once = shared_prefixes(poisson(400.0, Random(3)), 2000, short, chance=Random(4))
    world = simulation(spec(prefill=50, decode=50))
    records = world.run(tiled(once, 10))
    world.check()

    assert len(records) == 20_000
    assert all(record.ended_s is not None for record in records)
