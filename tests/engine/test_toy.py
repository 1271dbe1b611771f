"""The toy engine by itself: what its KV depends on, how it chooses tokens, and that it keeps to the port."""

import mmap
from collections.abc import Sequence

import pytest

from engine.costs import batch_s
from engine.port import Engine, EngineError
from engine.toy import END_OF_TEXT, ToyEngine
from kvstore.checksum import slot_checksum
from kvstore.layout import KvLayout
from scheduler.batch import Batch, Copy, Slice
from scheduler.vocabulary import Profile, RequestId, Sampling

SIZE = 8
GREEDY = Sampling()


def engine(blocks: int = 16, *, seed: int = 0, layers: int = 4, vocab_size: int = 512) -> ToyEngine:
    return ToyEngine(blocks, block_tokens=SIZE, max_model_len=512, seed=seed, layers=layers, vocab_size=vocab_size)


def piece(
    tokens: Sequence[int],
    *,
    start: int = 0,
    blocks: Sequence[int] = tuple(range(16)),
    sampling: Sampling | None = GREEDY,
    forbidden: frozenset[int] = frozenset(),
    request: str = "a",
) -> Slice:
    return Slice(RequestId(request), tokens, start, blocks, sampling, forbidden)


def sampled(toy: ToyEngine, *pieces: Slice) -> tuple[int | None, ...]:
    return toy.run(Batch(pieces)).tokens


def written(toy: ToyEngine, blocks: Sequence[int]) -> list[bytes]:
    """The bytes of these blocks, lowered."""
    arena = bytearray(len(blocks) * toy.layout.slot_bytes)
    toy.attach(memoryview(arena), toy.layout.slot_bytes)
    toy.lower([Copy(slot, block) for slot, block in enumerate(blocks)])
    toy.detach()
    starts = range(0, len(arena), toy.layout.slot_bytes)
    return [bytes(arena[start : start + toy.layout.block_bytes]) for start in starts]


def test_it_is_an_engine() -> None:
    toy: Engine = engine()
    assert toy.layout.layers == 4
    assert toy.warm_up().prefill_s[0] > 0


def test_layers_differ_in_bytes() -> None:
    layout: KvLayout = engine().layout
    assert layout.layer_bytes == (64, 128, 64, 64)


def test_larger_layers_change_the_bytes_that_are_copied_and_not_the_text() -> None:
    large = ToyEngine(4, block_tokens=SIZE, max_model_len=512, layers=2, layer_bytes=4096)
    assert large.layout.layer_bytes == (4096, 4160)
    text = list(range(20))
    (token,) = sampled(large, piece(text, blocks=(0, 1, 2)))
    moved = ToyEngine(8, block_tokens=SIZE, max_model_len=512, layers=2, layer_bytes=4096)
    arena = bytearray(3 * large.layout.slot_bytes)
    for toy in (large, moved):
        toy.attach(memoryview(arena), toy.layout.slot_bytes)
    large.lower([Copy(0, 0), Copy(1, 1), Copy(2, 2)])
    moved.lift([Copy(0, 5), Copy(1, 3), Copy(2, 7)])
    assert sampled(moved, piece(text[-1:], start=19, blocks=(5, 3, 7))) == (token,)
    assert token == sampled(engine(layers=2), piece(text))[0]


def test_a_block_is_known_by_its_tokens_its_place_and_all_before_it() -> None:
    text = list(range(3 * SIZE))
    toy = engine()
    sampled(toy, piece(text))
    blocks = written(toy, [0, 1, 2])

    repeated = engine()
    sampled(repeated, piece(text[:SIZE] * 3))
    assert len(set(written(repeated, [0, 1, 2]))) == 3
    assert written(repeated, [0]) == blocks[:1]

    changed = engine()
    sampled(changed, piece([99, *text[1:]]))
    assert not set(written(changed, [0, 1, 2])) & set(blocks)


def test_no_two_layers_hold_the_same() -> None:
    toy = engine()
    sampled(toy, piece(list(range(SIZE))))
    (block,) = written(toy, [0])
    layers = [block[start : start + 8 * SIZE] for start in toy.layout.layer_offsets]
    assert len(set(layers)) == 4


def test_the_text_hangs_on_every_position() -> None:
    texts = set()
    for position in range(40):
        tokens = [100 if index == position else index for index in range(40)]
        toy = engine()
        for start in (0, *range(40, 46)):
            (token,) = sampled(toy, piece(tokens[start:], start=start))
            assert token is not None
            tokens.append(token)
        texts.add(tuple(tokens[40:]))
    assert len(texts) == 40


def test_a_whole_block_comes_with_the_checksum_of_what_lies_in_its_slot() -> None:
    toy = engine()
    sampled(toy, piece(range(2 * SIZE)))
    arena = mmap.mmap(-1, 2 * toy.layout.slot_bytes)
    toy.attach(memoryview(arena), toy.layout.slot_bytes)
    checksums = toy.lower([Copy(1, 0), Copy(0, 1)])
    toy.detach()
    with memoryview(arena) as view:
        assert checksums == tuple(slot_checksum(view, slot, toy.layout) for slot in (1, 0))
    arena.close()


def test_each_layer_is_announced_in_order_when_its_kv_is_written() -> None:
    whole = engine()
    sampled(whole, piece(list(range(20))))
    toy = engine()
    arena = bytearray(3 * toy.layout.slot_bytes)
    toy.attach(memoryview(arena), toy.layout.slot_bytes)
    copies = [Copy(slot, slot) for slot in range(3)]
    layers = []

    def on_layer(layer: int) -> None:
        layers.append(layer)
        toy.lower_layer(copies, layer)

    toy.run(Batch((piece(list(range(20))),)), on_layer)

    assert layers == [0, 1, 2, 3]
    assert [bytes(arena[slot * toy.layout.slot_bytes :][: toy.layout.block_bytes]) for slot in range(3)] == written(
        whole, [0, 1, 2]
    )


def test_a_slice_in_the_middle_of_a_prompt_gives_no_token() -> None:
    assert sampled(engine(), piece(list(range(SIZE)), sampling=None)) == (None,)


def test_greedy_does_not_hang_on_the_seed_and_temperature_does() -> None:
    text = list(range(30))
    greedy = {sampled(engine(), piece(text, sampling=Sampling(seed=seed))) for seed in range(20)}
    warm = {sampled(engine(), piece(text, sampling=Sampling(temperature=2.0, seed=seed))) for seed in range(20)}

    assert len(greedy) == 1
    assert len(warm) > 4


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=5.0, top_k=1),
        Sampling(temperature=5.0, top_p=1e-9),
        Sampling(temperature=5.0, min_p=1.0),
        Sampling(temperature=1e-3),
    ],
)
def test_every_way_to_leave_one_candidate_is_greedy(sampling: Sampling) -> None:
    text = list(range(30))
    assert sampled(engine(), piece(text, sampling=sampling)) == sampled(engine(), piece(text))


def test_what_is_forbidden_is_not_sampled() -> None:
    text, seen = list(range(30)), set[int]()
    for _ in range(20):
        (token,) = sampled(engine(), piece(text, forbidden=frozenset(seen)))
        assert token is not None
        assert token not in seen
        seen.add(token)


def test_even_if_nearly_everything_is_forbidden() -> None:
    (token,) = sampled(engine(), piece([1, 2], forbidden=frozenset(range(500))))
    assert token == 500


def test_its_text_is_printable_and_seldom_ends_by_itself() -> None:
    toy = engine(blocks=64)
    tokens = [1]
    for _ in range(500):
        (token,) = sampled(toy, piece(tokens[-1:], start=len(tokens) - 1, blocks=range(64)))
        assert token is not None
        tokens.append(token)
    assert all(32 <= token < 127 or token == END_OF_TEXT for token in tokens[1:])
    assert tokens.count(END_OF_TEXT) <= 1
    assert len(set(tokens)) > 60


def test_seeds_make_other_models() -> None:
    assert engine(seed=1).weights != engine(seed=2).weights
    assert engine().weights == engine().weights
    assert engine(layers=3).weights != engine().weights


def test_work_takes_the_time_that_the_profile_says() -> None:
    profile = Profile(prefill_s=(0.1, 0.01, 0.001), step_s=(0.2, 0.02, 0.002), transfer_s=(0.5, 0.0))
    slept: list[float] = []
    toy = ToyEngine(16, block_tokens=SIZE, profile=profile, sleep=slept.append)
    batch = Batch((piece(range(10)), piece([1], start=20, request="b")))
    toy.run(batch)

    assert len(slept) == 4
    assert sum(slept) == pytest.approx(batch_s(profile, batch))
    slept.clear()
    toy.attach(memoryview(bytearray(toy.layout.slot_bytes)), toy.layout.slot_bytes)
    toy.lift([Copy(0, 0)])
    assert slept == [0.5]


def test_what_computing_takes_is_part_of_a_steps_time() -> None:
    profile = Profile(prefill_s=(0.4, 0.0, 0.0), step_s=(0.0, 0.0, 0.0))
    slept: list[float] = []
    moments = iter([10.0, 10.03, 10.15, 10.32, 10.45])
    toy = ToyEngine(16, block_tokens=SIZE, profile=profile, sleep=slept.append, clock=lambda: next(moments))
    toy.run(Batch((piece(range(10)),)))

    assert slept == pytest.approx([0.07, 0.05])  # the third and fourth layer are late already


def test_a_detached_arena_can_be_closed() -> None:
    toy = engine()
    memory = mmap.mmap(-1, toy.layout.slot_bytes)
    view = memoryview(memory)
    toy.attach(view, toy.layout.slot_bytes)
    toy.lower([Copy(0, 0)])
    toy.detach()
    view.release()
    memory.close()


def test_an_engine_that_can_not_be_made_says_why() -> None:
    with pytest.raises(EngineError, match="at least one block, not 0"):
        engine(blocks=0)
    with pytest.raises(EngineError, match="a vocabulary beyond 256, not of 256 tokens"):
        engine(vocab_size=256)
