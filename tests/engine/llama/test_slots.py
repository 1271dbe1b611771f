"""KV that went through an arena is the KV that was computed: whole blocks, layer by layer, into any pages."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.llama import LlamaEngine
from kvstore.checksum import slot_checksum
from scheduler.batch import Batch, Copy
from tests.engine.llama.checkpoints import reference_logits, save_model
from tests.engine.llama.driving import BLOCK, Text, in_a_row, load, prompt, step, whole

SLOTS = 12
EMPTY = 0xA5
"""What a slot holds before it is written: as float32 or bf16 it would show."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_model(path, "Qwen2", num_attention_heads=6, num_key_value_heads=2, hidden_size=96)
    return path


@pytest.fixture
def engine(directory: Path) -> LlamaEngine:
    return load(directory)


@pytest.fixture
def arena(engine: LlamaEngine) -> Iterator[mmap.mmap]:
    """Shared memory, closed at the end: that raises BufferError where somebody still holds a view of it."""
    with mmap.mmap(-1, SLOTS * engine.layout.slot_bytes) as mapped:
        mapped.write(bytes([EMPTY]) * len(mapped))
        yield mapped


def attach(engine: LlamaEngine, arena: mmap.mmap) -> None:
    engine.attach(memoryview(arena), engine.layout.slot_bytes)


def slot(engine: LlamaEngine, arena: mmap.mmap, number: int) -> bytes:
    start = number * engine.layout.slot_bytes
    return arena[start : start + engine.layout.slot_bytes]


def test_another_engine_goes_on_from_what_one_lowered(engine: LlamaEngine, directory: Path, arena: mmap.mmap) -> None:
    tokens = prompt(100)
    other = load(directory)
    expected = whole(engine, tokens, in_a_row(7), (96,))[96:]
    for each in (engine, other):
        attach(each, arena)
    engine.lower([Copy(slot=11 - block, block=block) for block in range(6)])
    text = Text(tokens, [20, 3, 9, 10, 0, 31, 7], computed=96)
    other.lift([Copy(slot=11 - index, block=block) for index, block in enumerate(text.blocks[:6])])
    step(other, (text, 4))
    torch.testing.assert_close(text.logits[0], expected, rtol=1e-5, atol=1e-5)
    for each in (engine, other):
        each.detach()


def test_layers_lowered_as_they_appear_make_the_same_slot_as_a_whole_block(
    engine: LlamaEngine, arena: mmap.mmap
) -> None:
    attach(engine, arena)
    text, seen = Text(prompt(3 * BLOCK), [5, 6, 2]), []

    def on_layer(layer: int) -> None:
        seen.append(layer)
        engine.lower_layer([Copy(slot=block, block=block) for block in text.blocks], layer)

    engine.run(Batch((text.slice(3 * BLOCK),)), on_layer)
    engine.lower([Copy(slot=9, block=5), Copy(slot=8, block=6), Copy(slot=10, block=2)])
    assert seen == list(range(engine.layout.layers))
    for layerwise, at_once in ((5, 9), (6, 8), (2, 10)):
        assert slot(engine, arena, layerwise) == slot(engine, arena, at_once)
    assert len({slot(engine, arena, number) for number in (5, 6, 2)}) == 3
    engine.detach()


def test_a_whole_block_comes_with_the_checksum_of_what_lies_in_its_slot(engine: LlamaEngine, arena: mmap.mmap) -> None:
    attach(engine, arena)
    whole(engine, prompt(2 * BLOCK), [4, 1])
    checksums = engine.lower([Copy(slot=3, block=4), Copy(slot=7, block=1)])
    with memoryview(arena) as view:
        assert checksums == tuple(slot_checksum(view, number, engine.layout) for number in (3, 7))
    assert len(set(checksums)) == 2
    engine.detach()


def test_one_layer_touches_its_own_slice_of_its_own_slot_only(engine: LlamaEngine, arena: mmap.mmap) -> None:
    attach(engine, arena)
    whole(engine, prompt(BLOCK), [4])
    engine.lower_layer([Copy(slot=3, block=4)], layer=1)
    layout = engine.layout
    start = 3 * layout.slot_bytes + layout.layer_offsets[1]
    end = start + layout.layer_bytes[1]
    assert set(arena[:start]) == {EMPTY}
    assert set(arena[end:]) == {EMPTY}
    assert len(set(arena[start:end])) > 100
    engine.detach()


def test_padding_and_other_slots_stay_as_they_are(directory: Path) -> None:
    engine = load(directory, block_tokens=5)
    layout = engine.layout
    assert layout.slot_bytes > layout.block_bytes
    with mmap.mmap(-1, 3 * layout.slot_bytes) as arena:
        arena.write(bytes([EMPTY]) * len(arena))
        attach(engine, arena)
        whole(engine, prompt(5), [0])
        engine.lower([Copy(slot=1, block=0)])
        engine.detach()
        assert set(slot(engine, arena, 0)) == set(slot(engine, arena, 2)) == {EMPTY}
        assert set(slot(engine, arena, 1)[layout.block_bytes :]) == {EMPTY}


def test_a_lift_changes_no_other_page(engine: LlamaEngine, arena: mmap.mmap) -> None:
    attach(engine, arena)
    tokens = prompt(60)
    expected = whole(engine, tokens, [1, 3, 5, 7])
    engine.lift([Copy(slot=0, block=block) for block in (0, 2, 4, 6, 8)])
    text = Text(tokens, [1, 3, 5, 7], computed=48)
    step(engine, (text, 12))
    torch.testing.assert_close(text.logits[0], expected[48:], rtol=1e-5, atol=1e-5)
    engine.detach()


def test_a_short_last_block_is_lifted_and_continued(engine: LlamaEngine, directory: Path, arena: mmap.mmap) -> None:
    """As a handoff does it: the KV of all the prompt, the last block unfilled, then decoding."""
    attach(engine, arena)
    tokens = prompt(41)
    whole(engine, tokens[:40], [0, 1, 2])
    engine.lower([Copy(slot=block, block=block) for block in (0, 1, 2)])
    text = Text(tokens, [30, 20, 10], computed=40)
    engine.lift([Copy(0, 30), Copy(1, 20), Copy(2, 10)])
    step(engine, (text, 1))
    torch.testing.assert_close(text.logits[0], whole(engine, tokens, [4, 5, 6])[40:], rtol=1e-4, atol=1e-4)
    engine.detach()


def test_after_detaching_the_mapping_closes_and_another_can_be_attached(engine: LlamaEngine) -> None:
    whole(engine, prompt(BLOCK), [0])
    slots = []
    for _ in range(2):
        arena = mmap.mmap(-1, SLOTS * engine.layout.slot_bytes)
        attach(engine, arena)
        engine.lower([Copy(slot=1, block=0)])
        engine.detach()
        slots.append(slot(engine, arena, 1))
        arena.close()  # BufferError if any view were left
    assert slots[0] == slots[1]


def test_attaching_again_lets_go_of_the_arena_before(engine: LlamaEngine, arena: mmap.mmap) -> None:
    before = mmap.mmap(-1, SLOTS * engine.layout.slot_bytes)
    attach(engine, before)
    attach(engine, arena)
    before.close()
    engine.detach()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_layout_says_what_a_slot_holds(directory: Path, dtype: str) -> None:
    engine = load(directory, dtype=dtype)
    size = {"float32": 4, "bfloat16": 2}[dtype]
    assert engine.dtype == dtype
    assert engine.layout.layer_bytes == (2 * 2 * BLOCK * 16 * size,) * 3
    assert dtype in engine.layout.axes
    assert load(directory, dtype=dtype).layout == engine.layout
    assert load(directory, dtype=dtype).weights == engine.weights


def test_what_was_lowered_is_what_transformers_would_go_on_from(tmp_path: Path, arena: mmap.mmap) -> None:
    model = save_model(tmp_path, "Qwen2", num_attention_heads=6, num_key_value_heads=2, hidden_size=96, seed=3)
    engine = load(tmp_path)
    attach(engine, arena)
    tokens = prompt(70)
    whole(engine, tokens[:64], [0, 1, 2, 3])
    engine.lower([Copy(slot=block, block=block) for block in range(4)])
    whole(engine, prompt(64, seed=9), [0, 1, 2, 3])  # others use those pages meanwhile
    engine.lift([Copy(slot=block, block=block) for block in range(4)])
    text = Text(tokens, [0, 1, 2, 3, 4], computed=64)
    step(engine, (text, 6))
    torch.testing.assert_close(text.logits[0], reference_logits(model, tokens)[64:], rtol=1e-4, atol=2e-4)
    engine.detach()
