"""What the steps of a batcher compute, and when a sequence ends. Blocks have 4 tokens."""

import pytest

from kvstore.names import child_name
from scheduler.vocabulary import FinishReason, Profile, Sampling
from tests.scheduler.build import ROOT, SIZE, admitted, ask_for, batcher, names, prompt, ran, step

SLOW = Profile(prefill_s=(0.0, 0.01, 0.0), step_s=(0.0, 0.0, 0.0))


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


def test_what_penalties_count_comes_with_each_slice_that_wants_a_token() -> None:
    worker, _ = batcher(tokens=10)
    worker.add(ask_for("a", prompt(12), output=[6], sampling=Sampling(presence_penalty=1.0)), now=0)
    admitted(worker)

    contexts = []
    for _ in range(3):
        batch = worker.next(now=0)
        assert batch is not None
        contexts += [(list(piece.context), piece.prompt) for piece in batch.slices]
        ran(worker, batch, token=8)
    assert contexts == [([], 12), ([*prompt(12), 6], 12), ([*prompt(12), 6, 8], 12)]


def test_without_penalties_no_slice_has_a_context() -> None:
    worker, _ = batcher()
    worker.add(ask_for("a", [1, 2, 3]), now=0)
    admitted(worker)
    for _ in range(2):
        batch = worker.next(now=0)
        assert batch is not None
        assert [tuple(piece.context) for piece in batch.slices] == [()]
        ran(worker, batch)


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
