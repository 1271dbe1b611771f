"""What a batcher does with its seats, blocks and budgets. Blocks have 4 tokens."""

import pytest

from kvstore.names import child_name
from scheduler.batching import BatchLimits
from scheduler.sequence import AWAITED
from scheduler.vocabulary import FinishReason, Profile, RequestId
from tests.scheduler.build import ROOT, SIZE, admitted, ask_for, batcher, names, prompt, ran, step

SLOW = Profile(prefill_s=(0.0, 0.01, 0.0), step_s=(0.0, 0.0, 0.0))


# -- admission --------------------------------------------------------------------------------------------------------


def test_sequences_are_seated_in_the_order_in_which_they_came() -> None:
    worker, _ = batcher(seats=2)
    for name in "abc":
        assert worker.add(ask_for(name, prompt(3)), now=0) is None

    assert admitted(worker) == ["a", "b"]
    worker.cancel(RequestId("a"))
    assert admitted(worker) == ["c"]


def test_a_small_sequence_does_not_overtake_a_large_one_that_waits_for_blocks() -> None:
    worker, _ = batcher(blocks=10)
    for name, length in (("first", 20), ("large", 30), ("small", 2)):
        worker.add(ask_for(name, prompt(length, start=length)), now=0)

    assert admitted(worker) == ["first"]
    assert admitted(worker) == []
    worker.cancel(RequestId("first"))
    assert admitted(worker) == ["large", "small"]


def test_a_seat_comes_with_blocks_for_the_whole_prompt_and_one_token() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(2 * SIZE)), now=0)
    worker.admit(now=0)

    assert device.pinned == 3


def test_a_prefill_for_another_worker_takes_blocks_for_the_prompt_only() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(2 * SIZE), hand_over=True), now=0)
    worker.admit(now=0)

    assert device.pinned == 2


def test_who_waits_for_blocks_of_others_is_seated_once_they_are_unpinned() -> None:
    worker, device = batcher(blocks=4)
    published = device.take(2)
    assert published is not None
    worker.add(ask_for("a", prompt(10)), now=0)

    assert admitted(worker) == []
    device.unpin(published)
    assert admitted(worker) == ["a"]


@pytest.mark.parametrize(
    ("running", "reason"),
    [
        (ask_for("a", []), "the prompt is empty"),
        (ask_for("a", prompt(32)), "32 tokens leave no room to generate: the context is 32 tokens"),
        (ask_for("a", prompt(24)), "24 tokens can never fit: this worker's KV cache holds 24 tokens"),
        (
            ask_for("a", [1], output=[5, 6], most=2),
            "nothing is left to generate: 2 of at most 2 tokens were given out",
        ),
        (ask_for("seated", [1]), "request seated is running here already"),
    ],
)
def test_what_can_never_run_is_refused_in_a_sentence(running: object, reason: str) -> None:
    worker, _ = batcher(blocks=6, context=32)
    worker.add(ask_for("seated", [1]), now=0)

    assert worker.add(running, now=0) == reason  # type: ignore[arg-type]
    assert not worker.full


def test_a_full_queue_refuses_and_says_so() -> None:
    worker, _ = batcher(waiting=1)
    worker.add(ask_for("a", [1]), now=0)

    assert worker.full
    assert worker.add(ask_for("b", [1]), now=0) == "the queue is full: 1 sequences are waiting"


def test_limits_without_room_for_anything_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchLimits(0, 64, 64, 1)


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_cut_at_blocks_and_only_its_end_asks_for_a_token() -> None:
    worker, _ = batcher(seats=1, tokens=10)
    worker.add(ask_for("a", prompt(19)), now=0)
    admitted(worker)

    cuts = []
    for _ in range(3):
        batch = worker.next(now=0)
        assert batch is not None
        cuts += [(piece.start, piece.end, piece.sampling is not None) for piece in batch.slices]
        ran(worker, batch)
    assert cuts == [(0, 8, False), (8, 16, False), (16, 19, True)]


def test_decodes_come_first_and_prefill_gets_what_is_left() -> None:
    worker, _ = batcher(seats=4, tokens=10)
    worker.add(ask_for("a", prompt(3)), now=0)
    step(worker)
    worker.add(ask_for("b", prompt(30, start=50)), now=0)
    admitted(worker)

    batch = worker.next(now=0)
    assert batch is not None
    assert [(piece.request, len(piece.tokens)) for piece in batch.slices] == [("a", 1), ("b", 8)]


def test_short_prompts_share_a_step() -> None:
    worker, _ = batcher(tokens=64)
    for index, name in enumerate("abc"):
        worker.add(ask_for(name, prompt(5, start=9 * index)), now=0)

    assert [each.request for each in step(worker)] == ["a", "b", "c"]


def test_a_step_takes_no_longer_than_its_bound_by_the_profile() -> None:
    worker, _ = batcher(tokens=1000, step_s=0.25, profile=SLOW)
    worker.add(ask_for("a", prompt(100)), now=0)
    admitted(worker)

    batch = worker.next(now=0)
    assert batch is not None
    assert batch.tokens == 24  # 25 tokens take 0.25 s; 24 are whole blocks


def test_at_least_one_block_is_prefilled_however_slow_that_is() -> None:
    worker, _ = batcher(step_s=0.001, profile=SLOW)
    worker.add(ask_for("a", prompt(100)), now=0)
    admitted(worker)

    batch = worker.next(now=0)
    assert batch is not None
    assert batch.tokens == SIZE


def test_a_token_budget_that_decodes_alone_would_spend_is_raised_by_a_block() -> None:
    worker, _ = batcher(seats=4, tokens=1)
    for index in range(4):
        worker.add(ask_for(f"{index}", prompt(9, start=20 * index)), now=0)

    tokens = []
    while worker.snapshot().live:
        admitted(worker)
        batch = worker.next(now=0)
        assert batch is not None
        tokens.append(batch.tokens)
        ran(worker, batch)
    assert max(tokens) <= 4 + SIZE


def test_blocks_are_named_only_when_the_step_was_applied() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(9)), now=0)
    admitted(worker)

    batch = worker.next(now=0)
    assert batch is not None
    assert [fill.name for fill in batch.fills] == list(names(prompt(9)))
    assert device.match(names(prompt(9))) == []
    ran(worker, batch)
    assert device.match(names(prompt(9))) == [fill.block for fill in batch.fills]


def test_a_block_that_decoding_fills_gets_the_name_of_its_tokens() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(2), most=10), now=0)
    for _ in range(3):
        step(worker, token=7)

    assert len(device.match(names([0, 1, 7, 7]))) == 1


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


# -- making room ------------------------------------------------------------------------------------------------------


def test_the_youngest_makes_room_and_comes_back_with_what_was_cached() -> None:
    worker, device = batcher(blocks=6)
    for name, start in (("old", 0), ("young", 100)):
        worker.add(ask_for(name, prompt(9, start=start), most=5), now=0)
    given: dict[str, int] = {"old": 0, "young": 0}
    seen = []
    for _ in range(20):
        for each in step(worker):
            given[each.request] += 1
            seen.append(each.request)
        if not worker.snapshot().live:
            break

    assert given == {"old": 5, "young": 5}
    assert worker.snapshot().preemptions == 1
    assert seen[-1] == "young"
    device.check()
    assert device.pinned == 0


def test_a_sequence_that_waits_to_be_handed_over_is_never_dropped() -> None:
    worker, _ = batcher(blocks=5, tokens=4, seats=2)
    worker.add(ask_for("old", prompt(3), most=50), now=0)
    step(worker)
    worker.add(ask_for("handoff", prompt(16, start=50), hand_over=True), now=0)
    admitted(worker)

    first = []
    for _ in range(8):
        first += [each.request for each in step(worker) if each.first]
    assert "handoff" in first


def test_who_is_preempted_stands_before_all_who_wait() -> None:
    worker, _ = batcher(blocks=6)
    for name, start in (("old", 0), ("young", 100), ("waiting", 200)):
        worker.add(ask_for(name, prompt(9, start=start), most=6), now=0)
    order: list[str] = []
    while worker.snapshot().live:
        order += [each.request for each in step(worker) if each.finish]

    assert order == ["old", "young", "waiting"]


# -- ending -----------------------------------------------------------------------------------------------------------


def test_a_stop_id_ends_a_sequence_and_is_given_out() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(3), stops=[9]), now=0)

    assert step(worker, token=8)[0].finish is None
    (progress,) = step(worker, token=9)
    assert (progress.token, progress.finish) == (9, FinishReason.STOP)


def test_stop_ids_are_forbidden_until_enough_was_generated_before_and_here() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(3), output=[5], stops=[9], least=3), now=0)
    admitted(worker)

    forbidden = []
    for _ in range(3):
        batch = worker.next(now=0)
        assert batch is not None
        forbidden.append(batch.slices[0].forbidden)
        ran(worker, batch)
    assert forbidden == [{9}, {9}, frozenset()]


def test_the_limit_counts_what_was_given_out_before() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(3), output=[5, 6], most=4), now=0)

    assert [step(worker)[0].finish, step(worker)[0].finish] == [None, FinishReason.LENGTH]


@pytest.mark.parametrize(("context", "blocks"), [(8, 64), (64, 2)])
def test_the_context_and_the_cache_bound_a_sequence(context: int, blocks: int) -> None:
    worker, _ = batcher(blocks=blocks, context=context)
    worker.add(ask_for("a", prompt(5)), now=0)

    finishes = [step(worker)[0].finish for _ in range(3)]
    assert finishes == [None, None, FinishReason.LENGTH]


def test_the_first_token_tells_how_long_it_queued_and_prefilled() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(3)), now=1.0)
    admitted(worker)
    (progress,) = ran(worker, worker.next(now=3.0), now=3.5)

    assert progress.first is not None
    assert (progress.first.queue_s, progress.first.prefill_s) == (2.0, 0.5)
    assert ran(worker, worker.next(now=4.0), now=4.5)[0].first is None


# -- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["waiting", "loading", "prefilling", "decoding"])
def test_a_cancelled_sequence_frees_everything_in_every_phase(phase: str) -> None:
    worker, device = batcher(seats=1, tokens=4)
    if phase == "waiting":
        worker.add(ask_for("seated", [1]), now=0)
        admitted(worker)
    worker.add(ask_for("a", prompt(7)), now=0)
    if phase == "loading":
        worker.admit(now=0)
    for _ in range({"waiting": 0, "loading": 0, "prefilling": 1, "decoding": 3}[phase]):
        step(worker)

    worker.cancel(RequestId("a"))
    worker.cancel(RequestId("a"))
    worker.loaded(RequestId("a"), 0)
    worker.cancel(RequestId("seated"))
    device.check()
    assert device.pinned == 0
    assert worker.snapshot().live == ()


def test_a_sequence_cancelled_in_a_step_gives_its_blocks_back_after_it() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(9)), now=0)
    admitted(worker)
    batch = worker.next(now=0)
    assert batch is not None

    worker.cancel(RequestId("a"))
    assert worker.snapshot().live == ()
    assert device.pinned == 3  # the engine still writes them
    assert ran(worker, batch) == []
    assert device.pinned == 0
    assert len(device.match(names(prompt(9)))) == 2  # what it computed is good


def test_whoever_copies_to_the_blocks_of_a_sequence_that_is_cancelled_keeps_them_by_a_pin() -> None:
    worker, device = batcher(blocks=4)
    worker.add(ask_for("a", prompt(9)), now=0)
    (load,) = worker.admit(now=0)
    device.pin(load.targets)

    worker.cancel(load.request)
    worker.loaded(load.request, 2)
    assert device.pinned == 2
    worker.add(ask_for("b", prompt(12, start=100), hand_over=True), now=0)
    assert worker.admit(now=0) == []
    device.unpin(load.targets)
    assert admitted(worker) == ["b"]
    assert device.match(names(prompt(9))) == []


# -- what it tells ----------------------------------------------------------------------------------------------------


def test_a_snapshot_counts_everybody_once() -> None:
    worker, _ = batcher(seats=3, tokens=7)
    worker.add(ask_for("decoding", prompt(3)), now=0)
    step(worker)
    worker.add(ask_for("prefilling", prompt(20, start=100)), now=0)
    step(worker)
    worker.add(ask_for("loading", prompt(6, start=200)), now=0)
    worker.add(ask_for("waiting", prompt(5, start=300)), now=0)
    worker.admit(now=0)

    snapshot = worker.snapshot()
    assert (snapshot.running, snapshot.waiting, snapshot.loading) == (2, 2, 1)
    assert snapshot.prefill_tokens_queued == 16 + 6 + 5
    assert snapshot.kv_tokens == 4 + 4
    assert snapshot.live == ("decoding", "prefilling", "loading", "waiting")


def test_a_handoff_that_arrives_is_no_prefill_work() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", prompt(40), output=[7], handed_over=True), now=0)

    assert worker.snapshot().prefill_tokens_queued == 0


def test_a_queue_about_one_text_is_work_for_one_until_somebody_is_seen_not_to_find_it() -> None:
    worker, _ = batcher(tokens=8)
    worker.add(ask_for("first", prompt(40)), now=0)
    for name in "abc":
        worker.add(ask_for(name, [*prompt(40), 600 + ord(name), 7], cached=40), now=0)
    admitted(worker, now=0)

    assert worker.snapshot().prefill_tokens_queued == 40 + 3 * 2
    ran(worker, worker.next(now=0))
    assert worker.snapshot().prefill_tokens_queued == 40 - 12 + 3 * 2

    other, _ = batcher(tokens=8)
    other.add(ask_for("hopeful", prompt(40), cached=36), now=0)
    admitted(other, now=0)
    assert other.snapshot().prefill_tokens_queued == 4
    ran(other, other.next(now=0))
    assert other.snapshot().prefill_tokens_queued == 40 - 12


def test_names_hang_on_the_root() -> None:
    assert names(prompt(4))[0] == child_name(ROOT, prompt(4))
