"""What a worker takes on beside those who decode. A token of prefill takes 10 ms, a decode 10 ms and 1 ms for each."""

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.costs import batch_s
from scheduler.batch import Batch
from scheduler.batching import Batcher
from scheduler.sequence import Running
from scheduler.tempo import HELD_TOKENS, MOST_SKIPPED
from scheduler.vocabulary import Profile, RequestId
from tests.scheduler.build import SIZE, admitted, ask_for, batcher, prompt, ran

SLOW = Profile(prefill_s=(0.0, 0.01, 0.0), step_s=(0.01, 0.001, 0.0))


def decoding(worker: Batcher, *tpots_s: float, now: float = 0.0) -> None:
    """Streams that were handed over, each with this promise; their first step here is run."""
    for number, tpot_s in enumerate(tpots_s):
        running = ask_for(
            f"d{number}", prompt(SIZE, start=50 + 10 * number), output=[1], handed_over=True, tpot_s=tpot_s, most=1000
        )
        assert worker.add(running, now=now) is None
    admitted(worker, now=now, **{f"d{number}": 1 for number in range(len(tpots_s))})
    ran(worker, worker.next(now=now), now=now)


def prefilling(worker: Batcher, tokens: int = 200, *, now: float = 0.0, **promised: float) -> None:
    assert worker.add(ask_for("prompt", prompt(tokens), hand_over=True, **promised), now=now) is None  # type: ignore[arg-type]
    assert admitted(worker, now=now) == ["prompt"]


def chunk(batch: Batch | None) -> int:
    """Tokens of prefill in it."""
    assert batch is not None
    return sum(len(piece.tokens) for piece in batch.slices if piece.request == "prompt")


# -- chunks beside decodes --------------------------------------------------------------------------------------------


def test_a_step_with_prefill_takes_no_longer_than_the_tightest_promise() -> None:
    worker, _ = batcher(blocks=200, tokens=1000, profile=SLOW)
    decoding(worker, 0.2, 0.1)
    prefilling(worker)

    batch = worker.next(now=0.0)
    assert chunk(batch) == 8  # of 100 ms the decodes take 12
    assert batch is not None
    assert batch_s(SLOW, batch) <= 0.1


def test_without_promises_a_step_is_bounded_by_its_limit_alone() -> None:
    worker, _ = batcher(blocks=200, tokens=1000, profile=SLOW)
    decoding(worker, inf, inf)
    prefilling(worker)

    assert chunk(worker.next(now=0.0)) == 20


def test_who_fell_behind_catches_up_before_more_is_prefilled() -> None:
    worker, _ = batcher(blocks=200, tokens=1000, profile=SLOW)
    decoding(worker, 0.1)
    prefilling(worker)

    batch = worker.next(now=0.09)  # 10 ms before its token is due, which takes 11
    assert chunk(batch) == 0


def test_who_is_ahead_may_wait_for_one_block_that_takes_longer_than_its_promise() -> None:
    worker, _ = batcher(blocks=200, tokens=1000, profile=SLOW)
    decoding(worker, 0.03)
    prefilling(worker)
    chunks, now = [], 0.0
    for _ in range(12):
        batch = worker.next(now=now)
        assert batch is not None
        chunks.append(chunk(batch))
        now += batch_s(SLOW, batch)
        ran(worker, batch, now=now)

    assert set(chunks) == {0, SIZE}  # 11 ms without, 51 with a block
    assert now / 12 <= 0.03


def test_prefill_advances_by_a_block_in_every_fourth_step_whatever_is_promised() -> None:
    worker, _ = batcher(blocks=200, tokens=1000, profile=SLOW)
    decoding(worker, 0.001)
    prefilling(worker)
    chunks, now = [], 0.0
    for _ in range(16):
        batch = worker.next(now=now)
        chunks.append(chunk(batch))
        now += 0.01
        ran(worker, batch, now=now)

    assert chunks == 4 * [*MOST_SKIPPED * [0], SIZE]


def test_a_mean_that_is_lost_holds_up_nobodys_prefill_for_ever() -> None:
    worker, _ = batcher(blocks=200, tokens=1000, profile=SLOW)
    decoding(worker, 0.1)
    prefilling(worker)
    late_s = (HELD_TOKENS + 2) * 0.1

    assert chunk(worker.next(now=late_s)) == 8


@given(
    st.lists(st.sampled_from([0.02, 0.05, 0.1, 0.3, inf]), min_size=1, max_size=6),
    st.integers(20, 300),
    st.integers(0, 2**32),
)
def test_every_step_keeps_the_promises_or_has_one_block_at_most(tpots_s: list[float], tokens: int, seed: int) -> None:
    """Steps take what the profile says, or up to half as long again."""
    worker, _ = batcher(blocks=1000, tokens=1000, profile=SLOW)
    decoding(worker, *tpots_s)
    prefilling(worker, tokens)
    random, now, last = Random(seed), 0.0, 0
    while "prompt" in worker.snapshot().live:
        batch = worker.next(now=now)
        assert batch is not None
        took = chunk(batch)
        if took > SIZE:
            assert batch_s(SLOW, batch) <= min(tpots_s) + 1e-9
        last = 0 if took else last + 1
        assert last <= MOST_SKIPPED
        now += batch_s(SLOW, batch) * random.uniform(1.0, 1.5)
        ran(worker, batch, now=now)


# -- seats for those who will decode ----------------------------------------------------------------------------------


def stream(name: str, *, tpot_s: float = inf, start: int = 300) -> Running:
    return ask_for(name, prompt(SIZE, start=start), output=[1], handed_over=True, tpot_s=tpot_s)


def test_a_stream_waits_while_its_tokens_would_break_a_tighter_promise() -> None:
    worker, _ = batcher(profile=SLOW)
    decoding(worker, 0.0125, inf)
    assert worker.add(stream("new", tpot_s=0.1), now=0) is None

    assert admitted(worker, now=0.1) == []
    worker.cancel(RequestId("d1"))
    assert admitted(worker, now=0.1) == ["new"]


def test_whoever_was_promised_as_much_is_seated_since_waiting_would_only_move_the_loss() -> None:
    worker, _ = batcher(profile=SLOW)
    decoding(worker, 0.0125, inf)
    assert worker.add(stream("new", tpot_s=0.0125), now=0) is None

    assert admitted(worker, now=0.1) == ["new"]


def test_whoever_would_be_alone_is_seated_whatever_was_promised() -> None:
    worker, _ = batcher(profile=SLOW)
    assert worker.add(stream("new", tpot_s=0.001), now=0) is None

    assert admitted(worker, now=0.0) == ["new"]


def test_it_waits_for_the_time_of_so_many_tokens_at_most() -> None:
    worker, _ = batcher(profile=SLOW)
    decoding(worker, 0.0125, inf)
    assert worker.add(stream("new", tpot_s=0.1), now=1.0) is None

    assert admitted(worker, now=1.0 + 0.0125 * HELD_TOKENS - 0.01) == []
    assert admitted(worker, now=1.0 + 0.0125 * HELD_TOKENS) == ["new"]


def test_who_waits_for_its_first_token_waits_no_longer_than_that_allows() -> None:
    worker, _ = batcher(profile=SLOW)
    decoding(worker, 0.0125, inf)
    assert worker.add(ask_for("inline", prompt(10, start=300), ttft_s=0.3), now=1.0) is None

    assert admitted(worker, now=1.19) == []
    assert admitted(worker, now=1.21) == ["inline"]


def test_a_prefill_for_another_worker_decodes_nothing_here_and_sits_down() -> None:
    worker, _ = batcher(profile=SLOW)
    decoding(worker, 0.0125, inf)
    assert worker.add(ask_for("prompt", prompt(20), hand_over=True), now=0) is None

    assert admitted(worker) == ["prompt"]


@pytest.mark.parametrize("tpot_s", [inf, 0.02])
def test_who_was_set_back_is_asked_for_blocks_only(tpot_s: float) -> None:
    worker, _ = batcher(blocks=6, profile=SLOW)
    for name, start in (("old", 0), ("young", 100)):
        worker.add(ask_for(name, prompt(9, start=start), most=6, tpot_s=tpot_s), now=0)
    ended: list[str] = []
    while worker.snapshot().live:
        admitted(worker)
        ended += [each.request for each in ran(worker, worker.next(now=0)) if each.finish]

    assert ended == ["old", "young"]
    assert worker.snapshot().preemptions == 1
