"""In bfloat16 the same products give the same bits; other cuts of the same work stay near float32 (docs/engine.md)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.llama import LlamaEngine
from engine.llama.layers import INSTRUCTIONS
from engine.llama.layers.decoder import LayersDecoder
from scheduler.batch import Batch, Copy
from tests.engine.llama.checkpoints import save_model
from tests.engine.llama.driving import Text, in_a_row, in_runs, load, prompt, scattered, step, whole

NEAR = 0.1
"""Root mean square distance of this model's logits from float32's, as a share of their standard deviation.

Measured: 0.05 for every way and cut; transformers in bfloat16: 0.07. Most of it is the rounding of the weights.
"""

WHOLE_SIZES: dict[str, Any] = {
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_size": 96,
    "intermediate_size": 96,
    "vocab_size": 144,
}
"""Multiples of 32 (of 16 the last), as whole layers want them and real models have them."""

SIZE = 32
"""Tokens in a block: what whole layers need at least."""

WAYS: dict[str, dict[str, Any]] = {
    **{f"layers by {name}": {"layers": (name,)} for name in INSTRUCTIONS},
    "C kernels": {"layers": ()},
    "torch alone": {"kernels": False},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_model(path, "Llama", **WHOLE_SIZES)
    return path


@pytest.fixture(scope="module", params=list(WAYS))
def engine(directory: Path, request: pytest.FixtureRequest) -> LlamaEngine:
    engine = load(directory, dtype="bfloat16", block_tokens=SIZE, **WAYS[request.param])
    if WAYS[request.param].get("layers") and not isinstance(engine.runner, LayersDecoder):
        pytest.skip("this processor has not these instructions")
    return engine


def test_by_whole_layers_no_cut_no_batch_and_no_place_changes_a_bit(engine: LlamaEngine) -> None:
    if not isinstance(engine.runner, LayersDecoder):
        pytest.skip("only there rows are computed in one order")
    total = engine.blocks_total
    first = whole(engine, TOKENS, in_a_row(5))
    for chunks in ((64, 128), (32, 128, 149), (1, 2, 3, 40, 100), tuple(range(100, 150))):
        for blocks in (in_a_row(5, 7), scattered(5, total), in_runs(5, total)):
            assert torch.equal(whole(engine, TOKENS, blocks, chunks), first)
    text, others = Text(TOKENS, in_a_row(5)), [Text(prompt(60, n), in_a_row(2, 10 + 4 * n)) for n in range(3)]
    step(engine, (others[1], 20), (text, 100), (others[0], 16))
    for count in range(25):
        step(engine, *((other, 1) for other in others[: count % 4]), (text, 1))
    step(engine, (others[0], 20), (text, 25))
    assert torch.equal(torch.cat(text.logits), first)


@pytest.fixture(scope="module")
def exact(directory: Path) -> torch.Tensor:
    """What float32 makes of ``TOKENS``."""
    return whole(load(directory, block_tokens=SIZE), TOKENS, in_a_row(5))


TOKENS = prompt(150)


def distance(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours.float() - exact).pow(2).mean().sqrt() / exact.std())


def test_the_same_step_gives_the_same_bits(engine: LlamaEngine) -> None:
    first = whole(engine, TOKENS, in_a_row(5), (64, 128, 149))
    assert torch.equal(whole(engine, TOKENS, in_a_row(5), (64, 128, 149)), first)


def test_pages_in_a_row_give_the_same_bits_wherever_they_lie(engine: LlamaEngine) -> None:
    first = whole(engine, TOKENS, in_a_row(5), (64, 128, 149))
    assert torch.equal(whole(engine, TOKENS, in_a_row(5, 21), (64, 128, 149)), first)


def test_what_was_computed_by_the_same_chunks_can_be_gone_on_from(engine: LlamaEngine) -> None:
    """As a reused prefix is, be it another sequence's or from the store."""
    first = whole(engine, TOKENS, in_a_row(5), (64, 128))
    text = Text(TOKENS, in_a_row(5), computed=128)
    step(engine, (text, 22))
    assert torch.equal(text.logits[0], first[128:])


def test_layers_tell_of_themselves_without_changing_anything(engine: LlamaEngine) -> None:
    text = Text(TOKENS, in_a_row(5))
    engine.run(Batch((text.slice(128),)), lambda layer: None)
    text.computed = 128
    step(engine, (text, 22))
    assert torch.equal(text.logits[0], whole(engine, TOKENS, in_a_row(5), (128,))[128:])


@pytest.mark.parametrize("chunks", [(), (64, 128), (16, 144), (128, 149)], ids=str)
def test_however_a_prompt_is_cut_and_placed_it_stays_near_float32(
    engine: LlamaEngine, exact: torch.Tensor, chunks: tuple[int, ...]
) -> None:
    total = engine.blocks_total
    for blocks in (in_a_row(5), scattered(5, total), in_runs(5, total)):
        assert distance(whole(engine, TOKENS, blocks, chunks), exact) < NEAR


def test_decoding_token_by_token_and_beside_others_stays_near_float32(engine: LlamaEngine, exact: torch.Tensor) -> None:
    text, others = Text(TOKENS, in_a_row(5)), [Text(prompt(60, n), in_a_row(2, 10 + 4 * n)) for n in range(3)]
    step(engine, (text, 100), *((other, 16) for other in others))
    for count in range(25):
        step(engine, (text, 1), *((other, 1) for other in others[: count % 4]))
    step(engine, (others[0], 20), (text, 25))
    assert distance(torch.cat(text.logits), exact) < NEAR


def test_the_kv_of_a_slot_is_the_kv_that_was_lowered_bit_by_bit(engine: LlamaEngine) -> None:
    first = whole(engine, TOKENS, in_a_row(5), (128,))[128:]
    arena = bytearray(4 * engine.layout.slot_bytes)
    engine.attach(memoryview(arena), engine.layout.slot_bytes)
    engine.lower([Copy(3 - block, block) for block in range(4)])
    whole(engine, prompt(150, 1), in_a_row(5))  # others use those pages meanwhile
    engine.lift([Copy(3 - block, block) for block in range(4)])
    engine.detach()
    text = Text(TOKENS, in_a_row(5), computed=128)
    step(engine, (text, 22))
    assert torch.equal(text.logits[0], first)
