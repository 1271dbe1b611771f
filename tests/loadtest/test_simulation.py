"""The cluster in virtual time: whole runs over small hosts."""

from dataclasses import replace
from math import inf
from random import Random

import pytest

from loadtest.request import Request, Span
from loadtest.simulator.events import Events
from loadtest.simulator.record import Record
from loadtest.simulator.spec import Coupled, Spec
from loadtest.simulator.store import Ssd
from loadtest.workload import chats, poisson, shared_prefixes, swarm
from loadtest.workload.chats import Chat
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from loadtest.workload.swarms import Swarm
from scheduler import estimate
from scheduler.vocabulary import Promise
from tests.loadtest.build import machine, simulation, spec

SHORT = Lengths(60, 100, most=200)
MIX = Mix(prefixes=5, prefix=Lengths(500, 800, most=3000), question=SHORT, answer=Lengths(20, 40))


def mix(rate_per_s: float = 20.0, number: int = 60, seed: int = 1) -> list[Request]:
    chance = Random(seed)
    return shared_prefixes(poisson(rate_per_s, chance), number, MIX, chance=chance)


def run(spec: Spec, requests: list[Request], *, seed: int = 0, **conducted: object) -> list[Record]:
    world = simulation(spec, seed=seed, **conducted)  # type: ignore[arg-type]
    records = world.run(requests)
    world.check()
    return records


def alone(tokens: int, output: int = 1) -> list[Request]:
    return [Request(0.5, (Span(1, tokens),), Span(2, output))]


def test_a_request_alone_takes_what_the_profile_says() -> None:
    (record,) = run(spec(), alone(1000), inline_max_tokens=0)

    assert record.ttft_s == pytest.approx(estimate.prefill_s(machine().profile, 1000))
    assert (record.prefill, record.decode) == ("prefill 0", "decode 0")
    assert record.cached_tokens == 0


def test_a_long_prompt_is_prefilled_in_steps_of_a_quarter_second() -> None:
    (record,) = run(spec(), alone(8000), inline_max_tokens=0)

    profile = machine().profile
    whole_s = estimate.prefill_s(profile, 8000)
    assert record.ttft_s == pytest.approx(whole_s + 3 * profile.prefill_s[0], rel=1e-6)  # 0.86 s: four steps


def test_between_tokens_lies_a_step_and_after_the_first_the_hand_over() -> None:
    (record,) = run(spec(), alone(640, output=3), inline_max_tokens=0)

    step_s = estimate.step_s(machine().profile, 1, 642)
    assert record.ended_s is not None
    assert record.ttft_s is not None
    assert record.tbt_s is not None  # of two gaps the longest: with the hand-over
    assert record.tbt_s > step_s
    assert record.ended_s - record.asked_s - record.ttft_s == pytest.approx(record.tbt_s + step_s, rel=1e-3)


def test_a_slower_link_delays_the_second_token_and_not_the_first() -> None:
    slow = spec(machine=machine(link_bytes_per_s=1e6))
    fast_record, slow_record = (run(each, alone(640, output=2), inline_max_tokens=0)[0] for each in (spec(), slow))

    assert slow_record.ttft_s == fast_record.ttft_s
    assert slow_record.tbt_s is not None
    assert slow_record.tbt_s > 0.5  # 640 kB at 1 MB/s, of which the prefill hides 65 ms


def test_a_prompt_that_was_computed_before_is_found_in_the_store() -> None:
    again = [*alone(640), Request(5.0, (Span(1, 640), Span(3, 60)), Span(4, 1))]
    first, second = run(spec(), again, inline_max_tokens=0)

    assert (first.cached_tokens, second.cached_tokens, second.cached_blocks) == (0, 640, 10)
    assert second.ttft_s is not None
    assert second.ttft_s < estimate.prefill_s(machine().profile, 700, 640) + 1e-3


def test_what_another_host_has_is_fetched() -> None:
    """Two at once: one of them must go where the prefix is not."""
    both = [*alone(6400), *(Request(5.0, (Span(1, 6400), Span(9 + place, 60)), Span(4, 1)) for place in range(2))]
    _, second, third = run(spec(), both, inline_max_tokens=0)

    assert {second.prefill, third.prefill} == {"prefill 0", "prefill 1"}
    assert second.cached_tokens == third.cached_tokens == 6400


def test_workers_of_one_host_hand_over_through_their_store_and_no_link_is_used() -> None:
    """Hosts are divided as ``moonpool up --hosts`` does: prefill workers on the first half."""
    one, two = simulation(spec(hosts=1)), simulation(spec(hosts=2))
    for world in (one, two):
        assert all(record.ended_s is not None for record in world.run(mix()))
        world.check()

    assert [len(world.stores) for world in (one, two)] == [1, 2]
    assert {name: worker.store.name for name, worker in two.workers.items()} == {
        "prefill 0": "store 0",
        "prefill 1": "store 0",
        "decode 0": "store 1",
        "decode 1": "store 1",
    }
    assert one.links.carried_bytes == 0
    assert two.links.carried_bytes > 0


def test_a_chats_next_turn_finds_the_answer_before_it_too() -> None:
    """The decode worker publishes every block that it fills."""
    said = (Span(1, 640),)
    turns = [
        Request(0.5, said, Span(2, 640)),
        Request(1.0, (*said, Span(2, 640), Span(3, 64)), Span(4, 1), after=0),
    ]
    _, second = run(spec(), turns, inline_max_tokens=0)

    assert second.cached_tokens == 1280 - 64  # the last answered token was never computed, so neither is its block


def test_records_have_the_time_of_every_token_where_they_are_asked_to() -> None:
    requests = mix(number=20)
    without, kept = run(spec(), requests), simulation(spec(), keep_times=True).run(requests)

    assert not any(record.times_s for record in without)
    for record in kept:
        assert len(record.times_s) == record.output_tokens
        assert list(record.times_s) == sorted(record.times_s)
        assert record.times_s[0] == record.ttft_s
        assert record.asked_s + record.times_s[-1] == pytest.approx(record.ended_s)


def test_the_same_seed_gives_the_same_records() -> None:
    assert run(spec(), mix(), seed=4, policy="random") == run(spec(), mix(), seed=4, policy="random")


WORKLOADS = {
    "mix": mix(number=50),
    "overload": mix(rate_per_s=150.0, number=80),
    "chats": chats(poisson(8.0, Random(2)), 12, Chat(question=SHORT, answer=SHORT, think_s=0.3), chance=Random(2)),
    "swarm": swarm(Swarm(root_tokens=600, branches=6, turns=8, tool_s=0.05), chance=Random(3)),
}


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize(
    "cluster",
    [
        spec(),
        spec(prefill=0, decode=0, mixed=3),
        spec(machine=machine(device_tokens=70 * 64), max_num_seqs=6),
        spec(dram_bytes=60 * 64 * 1024, ssd_bytes=500 * 70 * 1024),
        spec(prefill=0, decode=0, mixed=3, coupled=Coupled(chunked_prefill=False)),
        spec(machine=machine(max_model_len=900)),
    ],
    ids=["2P+2D", "mixed", "small device", "SSD", "coupled", "short context"],
)
def test_coasting_is_equal_to_stepping(name: str, cluster: Spec) -> None:
    """To the last bit: the shortcut changes no decision, no time and no hit."""
    assert run(cluster, WORKLOADS[name]) == run(replace(cluster, coasting=False), WORKLOADS[name])


def test_an_answer_ends_where_the_context_does_and_a_prompt_without_room_is_rejected() -> None:
    short = spec(machine=machine(max_model_len=700))
    asked = [Request(0.5, (Span(place, tokens),), Span(9, 400)) for place, tokens in enumerate((200, 640, 699, 700))]
    records = run(short, asked)

    assert [record.output_tokens for record in records[:3]] == [400, 60, 1]
    assert [record.ended_s is not None for record in records] == [True, True, True, False]
    assert "700 tokens" in (records[3].rejected or "")


@pytest.mark.parametrize("tpot_s", [inf, 0.0011])
@pytest.mark.parametrize(
    "cluster", [spec(), spec(prefill=0, decode=0, mixed=2, max_num_seqs=6)], ids=["2P+2D", "mixed"]
)
def test_coasting_is_equal_to_stepping_where_promises_hold_somebody_up(cluster: Spec, tpot_s: float) -> None:
    promise = Promise(0.1, tpot_s)
    coasted = run(cluster, WORKLOADS["overload"], promise=promise)
    assert coasted == run(replace(cluster, coasting=False), WORKLOADS["overload"], promise=promise)
    assert coasted != run(replace(cluster, enforced=False), WORKLOADS["overload"], promise=promise)


@pytest.mark.parametrize(("chunked", "gap_s"), [(True, 0.25), (False, 0.78)])
def test_a_decode_on_a_coupled_node_waits_for_a_chunk_or_for_a_whole_prompt(chunked: bool, gap_s: float) -> None:
    """7,000 tokens take 0.75 s, while the first request decodes."""
    both = [*alone(64, output=10), Request(0.51, (Span(3, 7000),), Span(4, 1))]
    one = spec(prefill=0, decode=0, mixed=1, coupled=Coupled(chunked_prefill=chunked))
    first, _ = run(one, both)

    assert first.tbt_s == pytest.approx(gap_s, rel=0.1)


@pytest.mark.parametrize(("coupled", "cached_tokens"), [(Coupled(), 0), (None, 960)])
def test_what_its_device_has_forgotten_a_coupled_node_computes_again(
    coupled: Coupled | None, cached_tokens: int
) -> None:
    """A prompt of 8,000 tokens takes the whole device; the store, which coupled nodes have none of, keeps both."""
    small, texts = machine(device_tokens=126 * 64), [(1, 1000), (2, 8000), (1, 1000)]
    asked = [Request(5.0 * at, (Span(text, tokens),), Span(9, 1)) for at, (text, tokens) in enumerate(texts)]
    records = run(spec(machine=small, prefill=0, decode=0, mixed=1, coupled=coupled), asked)

    assert records[-1].cached_tokens == cached_tokens


def test_a_follower_comes_when_the_one_before_it_has_ended() -> None:
    requests = [*alone(640, output=50), Request(2.0, (Span(3, 64),), Span(4, 1), after=0)]
    first, second = run(spec(), requests)

    assert first.ended_s is not None
    assert second.asked_s == first.ended_s + 2.0


def test_what_does_not_fit_the_context_is_rejected_and_nobody_follows_it() -> None:
    requests = [*alone(9000), Request(1.0, (Span(3, 64),), Span(4, 1), after=0)]
    (record,) = run(spec(), requests)

    assert record.rejected is not None
    assert "9000 tokens" in record.rejected


def test_a_worker_with_a_full_queue_refuses_and_another_is_asked() -> None:
    records = run(spec(max_num_seqs=1, max_waiting=1), mix(rate_per_s=200.0, number=60))

    assert any(record.placements > 1 for record in records)
    assert all((record.ended_s is None) == (record.rejected is not None) for record in records)


def test_seats_and_blocks_run_short_and_everybody_is_served() -> None:
    cramped = spec(machine=machine(device_tokens=80 * 64), max_num_seqs=3)
    records = run(cramped, mix(rate_per_s=100.0))

    assert all(record.ended_s is not None for record in records)


def test_reads_from_an_ssd_queue_for_one_another_and_so_do_writes() -> None:
    events = Events()
    disk, ended = Ssd(events, 1e9), list[tuple[str, float]]()
    for size in (200_000_000, 100_000_000):
        disk.read(size, lambda: ended.append(("read", events.now)))
        disk.write(size, lambda: ended.append(("written", events.now)))
    events.at(1.0, lambda: disk.read(100_000_000, lambda: ended.append(("read", events.now))))
    events.run()

    assert [(what, round(at_s, 6)) for what, at_s in ended] == [
        ("read", 0.2), ("written", 0.2), ("read", 0.3), ("written", 0.3), ("read", 1.1)
    ]  # fmt: skip


def test_more_dram_finds_more_again() -> None:
    contents = [Request(0.5 + place, (Span(place % 12, 1280),), Span(99, 1)) for place in range(36)]
    cached = [
        sum(record.cached_tokens for record in run(spec(dram_bytes=slots * 64 * 1024, prefill=1, decode=1,
            machine=machine(device_tokens=30 * 64)), contents, inline_max_tokens=0))
        for slots in (60, 120, 400)
    ]  # fmt: skip

    assert cached == sorted(cached)
    assert cached[0] < cached[-1] == 24 * 1216  # all but the last block, from the second time on


def test_an_ssd_keeps_what_dram_forgets() -> None:
    contents = [Request(0.5 + place, (Span(place % 12, 1280),), Span(99, 1)) for place in range(36)]
    small = {"dram_bytes": 100 * 64 * 1024, "prefill": 1, "decode": 1, "machine": machine(device_tokens=30 * 64)}
    without, with_ssd = (
        sum(record.cached_tokens for record in run(spec(**small, ssd_bytes=size), contents, inline_max_tokens=0))
        for size in (0, 1000 * 70 * 1024)
    )

    assert with_ssd > without


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"decode": 0}, "a worker that decodes"),
        ({"hosts": 0}, "fewer than 1 hosts"),
        ({"report_s": 2.0}, "believed dead"),
        ({"prefill": -1}, "fewer than 0"),
        ({"coupled": Coupled()}, "coupled workers are mixed ones"),
        ({"dram_bytes": 10}, "no room for a block"),
        ({"block_tokens": 100_000}, "the device has room for 12800 tokens"),
    ],
)
def test_a_cluster_that_can_not_be_is_refused_in_a_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        spec(**changes)


def test_with_seats_no_more_are_served_at_a_time_and_the_others_ask_when_one_is_free() -> None:
    """Each at exactly the end of another, in the order of their coming."""
    workload = [Request(0.0, (Span(2 * place, 300),), Span(2 * place + 1, 20)) for place in range(12)]
    run = simulation(spec())
    records = run.run(workload, seats=3)
    run.check()

    assert [record.place for record in sorted(records, key=lambda each: (each.asked_s, each.place))] == [*range(12)]
    ends = sorted(record.ended_s for record in records if record.ended_s is not None)
    assert [record.asked_s for record in records[3:]] == ends[:9]


def test_from_its_end_on_nobody_asks() -> None:
    """Neither who waits for a seat, nor who follows another."""
    waits = [Request(0.0, (Span(2 * place, 300),), Span(2 * place + 1, 20)) for place in range(3)]
    follows = [waits[0], Request(9.0, (Span(8, 300),), Span(9, 20), after=0)]

    assert len(simulation(spec()).run(waits, seats=1, until_s=0.01)) == 1
    assert len(simulation(spec()).run(follows, until_s=9.0)) == 1
    assert len(simulation(spec()).run(follows, until_s=99.0)) == 2
