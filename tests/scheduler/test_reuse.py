"""What a batcher does not compute: prefixes that are found, and prompts that are handed over. Blocks have 4 tokens."""

import pytest

from kvstore.names import child_name
from scheduler.sequence import AWAITED
from scheduler.vocabulary import RequestId
from tests.scheduler.build import SIZE, admitted, ask_for, batcher, names, prompt, ran, step

# -- reuse ------------------------------------------------------------------------------------------------------------


def test_a_second_prompt_reuses_what_the_device_has_but_never_its_last_token() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(12), most=1), now=0)
    step(worker)
    worker.add(ask_for("b", prompt(12), most=1), now=0)

    (load,) = worker.admit(now=0)
    assert load.names == names(prompt(12))[:2]
    assert load.missing == ()
    worker.loaded(load.request, 0)
    batch = worker.next(now=0)
    assert batch is not None
    assert [(piece.start, piece.end) for piece in batch.slices] == [(8, 12)]
    (progress,) = ran(worker, batch)
    assert progress.first is not None
    assert progress.first.cached_tokens == 8


def test_what_came_from_the_store_is_named_at_once_and_only_the_rest_is_computed() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(14)), now=0)
    (load,) = worker.admit(now=0)
    assert len(load.targets) == len(load.missing) == 3
    worker.loaded(load.request, 2)
    assert device.match(names(prompt(14))) == list(load.targets[:2])

    batch = worker.next(now=0)
    assert batch is not None
    assert [(piece.start, piece.end) for piece in batch.slices] == [(8, 14)]
    assert list(batch.slices[0].blocks[:3]) == list(load.targets)
    (progress,) = ran(worker, batch)
    assert progress.first is not None
    assert progress.first.cached_tokens == 8
    assert device.match(names(prompt(14))) == list(load.targets)


def test_what_two_have_copied_from_the_store_at_once_has_one_name() -> None:
    worker, device = batcher()
    for name in "ab":
        worker.add(ask_for(name, prompt(10)), now=0)
    first, second = worker.admit(now=0)
    for load in (first, second):
        worker.loaded(load.request, 2)

    assert device.match(names(prompt(10))) == list(first.targets)
    batch = worker.next(now=0)
    assert batch is not None
    assert [list(piece.blocks[:2]) for piece in batch.slices] == [list(first.targets), list(second.targets)]


def test_a_prefix_that_others_have_computed_meanwhile_continues_what_came_from_the_store() -> None:
    worker, _ = batcher(tokens=16)
    for name in "ab":
        worker.add(ask_for(name, [*prompt(16), ord(name)], hand_over=name == "b"), now=0)
    admitted(worker, a=1, b=1)

    ran(worker, worker.next(now=0))
    batch = worker.next(now=0)
    assert batch is not None
    assert [(piece.request, piece.start) for piece in batch.slices] == [("a", 17), ("b", 16)]
    assert [fill.name for fill in batch.fills if fill.request == "b"][:3] == list(names(prompt(16))[1:])


def test_many_who_ask_about_one_text_at_once_compute_it_once() -> None:
    worker, _ = batcher(tokens=20)
    text = prompt(20)
    for name in "abc":
        worker.add(ask_for(name, [*text, ord(name)], most=1), now=0)
    admitted(worker)  # all of them before anything is computed

    computed = 0
    while (batch := worker.next(now=0)) is not None:
        computed += batch.tokens
        ran(worker, batch)
    assert computed == 21 + 1 + 1


# -- handing over -----------------------------------------------------------------------------------------------------


def test_a_prefill_for_another_worker_fills_its_short_block_and_leaves_with_its_first_token() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(10), hand_over=True), now=0)
    (load,) = worker.admit(now=0)
    tail = child_name(names(prompt(10))[-1], prompt(10)[8:])
    assert load.handoff == (*names(prompt(10)), tail)
    assert load.handoff_short
    worker.loaded(load.request, 0)

    batch = worker.next(now=0)
    assert batch is not None
    assert [(fill.name, fill.short) for fill in batch.fills] == [
        *((name, False) for name in names(prompt(10))),
        (tail, True),
    ]
    (progress,) = ran(worker, batch)
    assert progress.finish is None
    assert worker.snapshot().live == ()
    assert device.pinned == 0
    assert device.cached == 2  # the short one is not kept


def test_a_handoff_of_whole_blocks_has_no_short_one() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(8), hand_over=True), now=0)
    (load,) = worker.admit(now=0)

    assert load.handoff == names(prompt(8))
    assert not load.handoff_short


def test_a_handoff_tells_which_blocks_the_device_had() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(10), most=1), now=0)
    step(worker)
    worker.add(ask_for("b", prompt(10), hand_over=True), now=0)

    (load,) = worker.admit(now=0)
    assert [name for name, _ in load.held] == list(names(prompt(10)))


def test_a_handoff_whose_prefix_another_computed_meanwhile_fills_those_blocks_too() -> None:
    worker, _ = batcher(tokens=12)
    worker.add(ask_for("a", prompt(13), hand_over=True), now=0)
    worker.add(ask_for("b", [*prompt(12), 99], hand_over=True), now=0)
    admitted(worker)

    filled: dict[str, list[object]] = {"a": [], "b": []}
    while (batch := worker.next(now=0)) is not None:
        for fill in batch.fills:
            filled[fill.request].append(fill.name)
        ran(worker, batch)
    assert filled["a"][:3] == filled["b"][:3] == list(names(prompt(12)))
    assert len(filled["b"]) == 4


@pytest.mark.parametrize("length", [8, 9, 10])
def test_what_was_handed_over_is_lifted_and_decoding_starts_at_once(length: int) -> None:
    worker, device = batcher()
    tokens = prompt(length)
    worker.add(ask_for("a", tokens, output=[7], handed_over=True), now=0)
    (load,) = worker.admit(now=0)
    rest = [] if length % SIZE == 0 else [child_name(names(tokens)[-1], tokens[8:])]
    assert load.missing == (*names(tokens), *rest)
    worker.loaded(load.request, len(load.missing))

    batch = worker.next(now=0)
    assert batch is not None
    assert [(piece.start, tuple(piece.tokens)) for piece in batch.slices] == [(length, (7,))]
    (progress,) = ran(worker, batch)
    assert progress.first is not None
    assert progress.first.cached_tokens == 0
    assert len(device.match(names(tokens))) == 2  # whole blocks; a short one is never cached


@pytest.mark.parametrize("length", [7, 8, 9, 10, 11])
def test_a_handoff_loads_the_same_whether_its_first_token_is_known_or_awaited(length: int) -> None:
    loads, batches = [], []
    for known in (True, False):
        worker, _ = batcher()
        worker.add(ask_for("a", prompt(length), output=[7 if known else AWAITED], handed_over=True), now=0)
        (load,) = worker.admit(now=0)
        if not known:
            worker.began(RequestId("a"), 7, now=0)
        worker.loaded(load.request, len(load.missing))
        batch = worker.next(now=0)
        assert batch is not None
        loads.append(load)
        batches.append([(piece.start, tuple(piece.tokens), tuple(piece.blocks)) for piece in batch.slices])
        filled = tuple(fill.name for fill in batch.fills)
        assert filled == names([*prompt(length), 7])[length // SIZE :]
    assert loads[0] == loads[1]
    assert batches[0] == batches[1]


def test_a_first_token_that_is_awaited_must_come_before_its_sequence_runs() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(10), output=[AWAITED], handed_over=True), now=0)
    (load,) = worker.admit(now=0)
    assert worker.next(now=0) is None
    with pytest.raises(AssertionError, match="without its first token"):
        worker.loaded(load.request, len(load.missing))
    worker.began(RequestId("gone"), 7, now=0)  # cancelled meanwhile


def test_what_is_missing_of_a_handoff_is_computed_from_its_block_on() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(10), output=[7], handed_over=True), now=0)
    worker.admit(now=0)
    worker.loaded(RequestId("a"), 1)

    batch = worker.next(now=0)
    assert batch is not None
    assert [(piece.start, piece.end) for piece in batch.slices] == [(4, 11)]
