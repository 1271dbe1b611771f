"""The same engine on a CUDA device: near transformers, and its copies to and from slots."""

import mmap
from pathlib import Path

import pytest
import torch

from scheduler.batch import Copy
from tests.engine.llama.checkpoints import MODELS, reference_logits, save_model
from tests.engine.llama.driving import Text, assert_greedy, greedy, in_a_row, load, prompt, scattered, step, whole

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.parametrize("name", list(MODELS))
def test_float32_logits_and_tokens_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    family, changes = MODELS[name]
    model = save_model(tmp_path, family, **changes)
    engine = load(tmp_path, device="cuda")
    tokens = prompt(133)
    theirs = reference_logits(model, tokens)
    for blocks in (in_a_row(9, 3), scattered(9, engine.blocks_total)):
        ours = whole(engine, tokens, blocks, (64, 128, 132)).cpu()
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    output = greedy(engine, tokens, in_a_row(12), 30)
    assert_greedy(reference_logits(model, tokens + output), tokens + output, len(tokens))


def test_bfloat16_gives_the_same_bits_for_the_same_step(tmp_path: Path) -> None:
    save_model(tmp_path, "Llama", head_dim=32)
    engine = load(tmp_path, device="cuda", dtype="bfloat16")
    tokens = prompt(100)
    assert torch.equal(whole(engine, tokens, in_a_row(7)), whole(engine, tokens, in_a_row(7, 9)))


def test_slots_hold_what_the_pages_held_and_the_mapping_closes(tmp_path: Path) -> None:
    save_model(tmp_path, "Llama")
    engine = load(tmp_path, device="cuda")
    tokens, slot_bytes = prompt(70), engine.layout.slot_bytes
    first = whole(engine, tokens, in_a_row(5), (64,))[64:]
    arena = mmap.mmap(-1, 8 * slot_bytes)
    engine.attach(memoryview(arena), slot_bytes)
    for layer in range(engine.layout.layers):
        engine.lower_layer([Copy(7 - block, block) for block in range(4)], layer)
    engine.lift([Copy(7 - index, block) for index, block in enumerate((20, 9, 14, 11))])
    text = Text(tokens, [20, 9, 14, 11, 3], computed=64)
    step(engine, (text, 6))
    torch.testing.assert_close(text.logits[0], first, rtol=1e-4, atol=1e-4)
    engine.detach()
    arena.close()


def test_a_cpu_and_a_cuda_engine_share_slots(tmp_path: Path) -> None:
    save_model(tmp_path, "Llama")
    cpu, cuda = load(tmp_path), load(tmp_path, device="cuda")
    assert (cpu.layout, cpu.weights) == (cuda.layout, cuda.weights)
