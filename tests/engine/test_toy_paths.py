"""One answer, whatever the path: the toy engine's text is the same on every way a prompt can take.

And the oracle bites: one block, layer or byte in the wrong place, and the text is another.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.names import block_names, child_name
from scheduler.vocabulary import Limits, RequestId, Sampling
from tests.engine.paths import LAYOUT, ROOT, SIZE, Arena, Asked, Worker, alone, decoded, ended, prefilled

lengths = st.one_of(
    st.builds(lambda blocks, off: max(1, blocks * SIZE + off), st.integers(0, 12), st.sampled_from([-1, 0, 1])),
    st.integers(1, 100),
)
samplings = st.one_of(
    st.just(Sampling()),
    st.builds(
        Sampling,
        temperature=st.floats(0.1, 5),
        top_k=st.integers(0, 5),
        top_p=st.floats(0.3, 1),
        min_p=st.floats(0, 0.3),
        seed=st.integers(0, 2**64 - 1),
    ),
    st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 2.0]),
        seed=st.integers(0, 2**64 - 1),
        repetition_penalty=st.floats(0.5, 4),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
    ),
)
limits = st.builds(
    Limits,
    max_tokens=st.integers(1, 20),
    min_tokens=st.integers(0, 5),
    stop_ids=st.frozensets(st.integers(32, 126), max_size=6),
)
prompts = st.builds(
    lambda length, seed: tuple((seed * 31 + index * index * 7 + index // 5) % 257 for index in range(length)),
    lengths,
    st.integers(0, 10**6),
)
requests = st.builds(Asked, prompts, samplings, limits)


def chunked(asked: Asked) -> list[int]:
    worker = Worker(seats=1, tokens=1)
    worker.add("a", asked)
    worker.work()
    return worker.given("a")


def batched(asked: Asked) -> list[int]:
    """Seven others, of all lengths, before, with and after it."""
    worker = Worker(tokens=24)
    others = [Asked(tuple(range(3 + 9 * index)), limits=Limits(4 + 3 * index)) for index in range(7)]
    for index, other in enumerate(others[:4]):
        worker.add(f"before {index}", other)
    worker.work(until=lambda: worker.batcher.snapshot().running >= 2)
    worker.add("a", asked)
    for index, other in enumerate(others[4:]):
        worker.add(f"after {index}", other)
    worker.work()
    assert worker.largest_batch > 1
    return worker.given("a")


def on_the_device(asked: Asked) -> list[int]:
    worker = Worker()
    worker.add("first", asked)
    worker.work()
    worker.add("a", asked)
    worker.work()
    assert worker.cached("a") == (len(asked.prompt) - 1) // SIZE * SIZE
    return worker.given("a")


def branching_from_another_on_the_device(asked: Asked) -> list[int]:
    worker = Worker()
    worker.add("first", Asked((*asked.prompt[: len(asked.prompt) // 2], 99, *asked.prompt)))
    worker.work()
    worker.add("a", asked)
    worker.work()
    return worker.given("a")


def lifted_from_the_arena(asked: Asked) -> list[int]:
    arena = Arena()
    for worker in (Worker(arena), last := Worker(arena)):
        worker.add("a", asked)
        worker.work()
    assert last.cached("a") == last.lifted * SIZE == (len(asked.prompt) - 1) // SIZE * SIZE
    return last.given("a")


def lifts_that_were_stale_from_the_second_block_on(asked: Asked) -> list[int]:
    """The stale ones are on the device, too, and must be written over."""
    arena = Arena()
    for worker in (Worker(arena), last := Worker(arena)):
        worker.add("a", asked)
        last.distrusted = {RequestId("a"): 1}
        worker.work()
    assert last.lifted <= 1
    return last.given("a")


def handed_over(asked: Asked) -> list[int]:
    arena = Arena()
    first = prefilled(asked, arena)
    return first if ended(asked, first) else decoded(asked, arena, first)


def handed_over_in_chunks(asked: Asked) -> list[int]:
    arena = Arena()
    first = prefilled(asked, arena, tokens=1)
    return first if ended(asked, first) else decoded(asked, arena, first)


def handed_over_with_its_prefix_on_the_prefill_device(asked: Asked) -> list[int]:
    """Its blocks were published, lost, and are lowered again, whole."""
    arena = Arena()
    worker = Worker(arena)
    worker.add("before", asked)
    worker.work()
    arena.lose(arena.names)
    worker.add("a", asked, hand_over=True)
    worker.work()
    first = worker.given("a")
    return first if ended(asked, first) else decoded(asked, arena, first)


def handed_over_half_missing(asked: Asked) -> list[int]:
    arena = Arena()
    first = prefilled(asked, arena)
    arena.lose(list(arena.names)[len(arena.names) // 2 :])
    return first if ended(asked, first) else decoded(asked, arena, first)


def handed_over_without_its_short_block(asked: Asked) -> list[int]:
    arena = Arena()
    first = prefilled(asked, arena)
    arena.lose(set(arena.names) - set(block_names(ROOT, asked.prompt, SIZE)))
    return first if ended(asked, first) else decoded(asked, arena, first)


def handed_over_to_another_host(asked: Asked) -> list[int]:
    arena = Arena()
    first = prefilled(asked, arena)
    return first if ended(asked, first) else decoded(asked, arena.carried(arena.names), first)


def handed_over_to_another_host_of_which_every_third_block_is_lost(asked: Asked) -> list[int]:
    arena = Arena()
    first = prefilled(asked, arena)
    came = {name for place, name in enumerate(arena.names) if place % 3 != 1}
    return first if ended(asked, first) else decoded(asked, arena.carried(came), first)


def preempted(asked: Asked) -> list[int]:
    """An older sequence grows until this one must make room; what was published comes back from the arena."""
    worker = Worker(Arena(), blocks=-(-(len(asked.prompt) + 1) // SIZE) + 3)
    worker.add("old", Asked((1, 2, 3), limits=Limits(40)))
    worker.add("a", asked)
    worker.work()
    return worker.given("a")


def resumed_elsewhere(asked: Asked) -> list[int]:
    """Its decode worker dies in the middle; another goes on with nothing but its tokens."""
    first = Worker()
    first.add("a", asked)
    first.work(until=lambda: len(first.given("a")) > asked.limits.max_tokens // 2)
    output = first.given("a")
    if ended(asked, output):
        return output
    second = Worker()
    second.add("a", asked, output=output)
    second.work()
    return output + second.given("a")


def resumed_through_a_handoff(asked: Asked) -> list[int]:
    """As the gateway resumes: the prefill worker computes what was given out, and knows that it is output."""
    half = Asked(asked.prompt, asked.sampling, Limits(max(1, asked.limits.max_tokens // 2)))
    arena = Arena()
    worker = Worker(arena)
    worker.add("a", asked, limits=Limits(half.limits.max_tokens, asked.limits.min_tokens, asked.limits.stop_ids))
    worker.work()
    output = worker.given("a")
    if ended(asked, output):
        return output
    output += prefilled(asked, arena, output=output)
    return output if ended(asked, output) else decoded(asked, arena, output)


PATHS = [
    chunked,
    batched,
    on_the_device,
    branching_from_another_on_the_device,
    lifted_from_the_arena,
    lifts_that_were_stale_from_the_second_block_on,
    handed_over,
    handed_over_in_chunks,
    handed_over_with_its_prefix_on_the_prefill_device,
    handed_over_half_missing,
    handed_over_without_its_short_block,
    handed_over_to_another_host,
    handed_over_to_another_host_of_which_every_third_block_is_lost,
    preempted,
    resumed_elsewhere,
    resumed_through_a_handoff,
]


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=30)
@given(asked=requests)
def test_every_path_gives_the_tokens_that_one_worker_alone_gives(
    path: Callable[[Asked], list[int]], asked: Asked
) -> None:
    assert path(asked) == alone(asked)


def test_the_path_of_preemption_preempts() -> None:
    asked = Asked(tuple(range(40)), limits=Limits(20))
    worker = Worker(Arena(), blocks=9)
    worker.add("old", Asked((1, 2, 3), limits=Limits(40)))
    worker.add("a", asked)
    worker.work()

    assert worker.batcher.snapshot().preemptions >= 1
    assert worker.given("a") == alone(asked)


@settings(max_examples=20)
@given(st.lists(requests, min_size=2, max_size=6))
def test_many_on_a_device_that_is_too_small_all_get_their_own_text(crowd: list[Asked]) -> None:
    worker = Worker(Arena(), blocks=16, tokens=16)
    for index, asked in enumerate(crowd):
        worker.add(f"{index}", asked)
    worker.work()

    for index, asked in enumerate(crowd):
        assert worker.given(f"{index}") == alone(asked)
    worker.device.check()
    assert worker.device.pinned == 0


# -- the oracle bites -------------------------------------------------------------------------------------------------

TEXTS = [
    Asked(tuple((seed * 77 + index * 13) % 256 for index in range(length)), limits=Limits(24))
    for seed, length in enumerate([SIZE * 3, SIZE * 3 + 1, SIZE * 4 - 1, SIZE * 9 + 5, 100])
]


def slots_of(asked: Asked, arena: Arena) -> list[int]:
    """Of its prompt's blocks, in order, the short one last."""
    chain = block_names(ROOT, asked.prompt, SIZE)
    rest = len(asked.prompt) % SIZE
    tail = [child_name(chain[-1], asked.prompt[-rest:])] if rest else []
    return [arena.names[name] for name in (*chain, *tail)]


def swap(one: memoryview, other: memoryview) -> None:
    kept = bytes(one)
    one[:], other[:] = bytes(other), kept


def swap_two_blocks(arena: Arena, slots: list[int]) -> None:
    swap(arena.slot(slots[0]), arena.slot(slots[1]))


def swap_the_last_two_blocks(arena: Arena, slots: list[int]) -> None:
    swap(arena.slot(slots[-1]), arena.slot(slots[-2]))


def shift_all_blocks_by_one(arena: Arena, slots: list[int]) -> None:
    for one, other in pairwise(slots):
        swap(arena.slot(one), arena.slot(other))


def swap_two_layers_of_one_block(arena: Arena, slots: list[int]) -> None:
    swap(arena.layer(slots[1], 0), arena.layer(slots[1], 2))


def reverse_the_layers_everywhere(arena: Arena, slots: list[int]) -> None:
    for slot in slots:
        swap(arena.layer(slot, 2), arena.layer(slot, 3))


def assume_that_layers_have_equal_bytes(arena: Arena, slots: list[int]) -> None:
    for slot in slots:
        whole = bytes(arena.slot(slot))
        for layer, offset in enumerate(LAYOUT.layer_offsets):
            equal = layer * SIZE * 8
            arena.slot(slot)[offset : offset + SIZE * 8] = whole[equal : equal + SIZE * 8]


def leave_a_slot_as_another_prompt_had_it(arena: Arena, slots: list[int]) -> None:
    other = Arena()
    prefilled(Asked(tuple(range(100, 100 + SIZE))), other)
    arena.slot(slots[1])[:] = bytes(other.slot(0))


def leave_one_layer_unwritten(arena: Arena, slots: list[int]) -> None:
    arena.layer(slots[-1], 3)[:] = bytes(LAYOUT.layer_bytes[3])


def flip_one_bit_of_the_first_token(arena: Arena, slots: list[int]) -> None:
    arena.slot(slots[0])[0] ^= 1


WRONGS = [
    swap_two_blocks,
    swap_the_last_two_blocks,
    shift_all_blocks_by_one,
    swap_two_layers_of_one_block,
    reverse_the_layers_everywhere,
    assume_that_layers_have_equal_bytes,
    leave_a_slot_as_another_prompt_had_it,
    leave_one_layer_unwritten,
    flip_one_bit_of_the_first_token,
]


@pytest.mark.parametrize("wrong", WRONGS)
@pytest.mark.parametrize("asked", TEXTS, ids=lambda asked: f"{len(asked.prompt)} tokens")
def test_whatever_is_handed_over_wrongly_changes_the_text(
    wrong: Callable[[Arena, list[int]], None], asked: Asked
) -> None:
    arena = Arena()
    first = prefilled(asked, arena)
    wrong(arena, slots_of(asked, arena))

    assert decoded(asked, arena, first) != alone(asked)


@pytest.mark.parametrize("asked", TEXTS, ids=lambda asked: f"{len(asked.prompt)} tokens")
def test_a_wrong_block_changes_the_text_of_whoever_reuses_it(asked: Asked) -> None:
    arena = Arena()
    prefilled(asked, arena)
    flip_one_bit_of_the_first_token(arena, slots_of(asked, arena))
    worker = Worker(arena)
    worker.add("a", asked)
    worker.work()

    assert worker.cached("a") > 0
    assert worker.given("a") != alone(asked)


def test_a_handoff_left_alone_is_right() -> None:
    for asked in TEXTS:
        arena = Arena()
        assert decoded(asked, arena, prefilled(asked, arena)) == alone(asked)


def test_another_model_gives_another_text() -> None:
    assert alone(TEXTS[0], seed=1) != alone(TEXTS[0], seed=0)
