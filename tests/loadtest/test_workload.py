"""Workloads from a seed: arrivals, chats, shared prefixes, swarms."""

from collections.abc import Iterator
from itertools import islice, pairwise
from statistics import mean, pstdev

import pytest

from loadtest.request import Request
from loadtest.workload import chats, constant, gamma, poisson, shared_prefixes, swarm
from loadtest.workload.chats import Chat
from loadtest.workload.lengths import Lengths, always
from loadtest.workload.prefixes import Mix
from loadtest.workload.swarms import Swarm
from tests.loadtest.build import chance


def gaps(arrivals: Iterator[float], number: int = 20_000) -> list[float]:
    return [later - earlier for earlier, later in pairwise(islice(arrivals, number))]


def test_constant_arrivals_have_equal_gaps() -> None:
    assert list(islice(constant(4.0), 3)) == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_gamma_arrivals_have_their_rate_and_their_variation(variation: float) -> None:
    found = gaps(gamma(5.0, variation, chance()))

    assert mean(found) == pytest.approx(0.2, rel=0.06)
    assert pstdev(found) / mean(found) == pytest.approx(variation, rel=0.06)


def test_poisson_arrivals_vary_as_exponential_gaps_do() -> None:
    found = gaps(poisson(2.0, chance()))

    assert pstdev(found) / mean(found) == pytest.approx(1.0, rel=0.05)


def test_a_rate_is_above_0() -> None:
    with pytest.raises(ValueError, match="rate"):
        constant(0.0)
    with pytest.raises(ValueError, match="variation"):
        gamma(1.0, 0.0, chance())


def test_lengths_have_their_median_and_mean() -> None:
    drawn = sorted(Lengths(100, 200).draw(random) for random in [chance()] for _ in range(20_000))

    assert drawn[10_000] == pytest.approx(100, rel=0.05)
    assert mean(drawn) == pytest.approx(200, rel=0.1)
    assert always(7).draw(chance()) == 7


def turns(workload: list[Request]) -> list[tuple[Request, Request]]:
    return [(workload[each.after], each) for each in workload if each.after is not None]


def test_a_chats_next_prompt_is_all_that_was_said_and_a_question() -> None:
    workload = chats(constant(1.0), 50, Chat(), chance=chance())

    assert turns(workload)
    for before, after in turns(workload):
        assert after.prompt[:-1] == (*before.prompt, before.output)
    assert len({request.prompt[0] for request in workload}) == 1  # the system prompt


def test_readers_think_for_as_long_as_is_said_in_the_mean_and_some_far_longer() -> None:
    thought_s = [after.at_s for _, after in turns(chats(constant(1.0), 3000, Chat(think_s=4.0), chance=chance()))]

    assert mean(thought_s) == pytest.approx(4.0, rel=0.05)
    assert pstdev(thought_s) == pytest.approx(4.0, rel=0.1)  # exponential


def test_different_chats_share_only_the_system_prompt() -> None:
    workload = chats(constant(1.0), 50, Chat(system_tokens=0), chance=chance())

    beginnings = [request.prompt[0].content for request in workload if request.after is None]
    assert len(set(beginnings)) == 50


def test_shared_prefixes_are_asked_for_by_their_skew() -> None:
    mix = Mix(prefixes=4, skew=1.0)
    workload = shared_prefixes(constant(1.0), 5000, mix, chance=chance())

    asked = [sum(request.prompt[0].content == place for request in workload) / 5000 for place in range(4)]
    assert asked == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=0.03)
    assert len({request.prompt[1].content for request in workload}) == 5000


def test_a_swarm_is_a_root_and_branches_that_go_on_by_themselves() -> None:
    workload = swarm(Swarm(branches=5, turns=20), chance=chance())

    root = workload[0]
    assert len(workload) == 101
    assert sum(request.after == 0 for request in workload) == 5
    assert all(request.prompt[:2] == (*root.prompt, root.output) for request in workload[1:])
    for before, after in turns(workload):
        assert after.prompt[:-1] == (*before.prompt, before.output)


def test_tools_take_as_long_as_is_said_in_the_mean() -> None:
    workload = swarm(Swarm(tool_s=0.5), chance=chance())

    assert len(workload) == 1 + 32 * 200  # hundreds of turns in each
    assert mean(request.at_s for request in workload[1:]) == pytest.approx(0.5, rel=0.05)


def test_a_branch_ends_before_its_prompt_is_too_long() -> None:
    workload = swarm(Swarm(root_tokens=1000, branches=2, turns=500, most_tokens=2000), chance=chance())

    assert max(request.input_tokens for request in workload) <= 2000


def test_two_swarms_of_one_workload_share_nothing() -> None:
    one = swarm(Swarm(turns=3), contents=0, chance=chance())
    other = swarm(Swarm(turns=3), contents=1000, chance=chance())

    assert not {span for each in one for span in each.prompt} & {span for each in other for span in each.prompt}


def test_workloads_are_functions_of_their_seed() -> None:
    def made(seed: int) -> list[Request]:
        random = chance(seed)
        return chats(poisson(1.0, random), 20, Chat(), chance=random) + swarm(Swarm(turns=5), chance=random)

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_what_is_no_workload_is_said() -> None:
    with pytest.raises(ValueError, match="no chats"):
        chats(constant(1.0), 0, Chat(), chance=chance())
    with pytest.raises(ValueError, match="no mix"):
        shared_prefixes(constant(1.0), 1, Mix(prefixes=0), chance=chance())
    with pytest.raises(ValueError, match="no swarm"):
        swarm(Swarm(branches=0), chance=chance())
    with pytest.raises(ValueError, match="median"):
        Lengths(5, 2)
