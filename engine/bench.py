"""What the torch engine costs, against what this machine can do at all, measured in the same run.

    matrix rate  FLOP/s of this model's own packed products at 512 rows, all layers after another
    read         bytes/s of summing an array that fits no cache

Prefill's limit is 2 FLOP per weight and token (embedding left out, the head for the last token only) at the
matrix rate: attention is not in it. A step's limit is reading weights and KV once at the read rate. Floors and
rows are measured in turns, and medians are given: a neighbour's noise then falls on both.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from engine.llama.engine import LlamaEngine
from engine.synthetic import prefill_batch, step_batch
from scheduler.batch import Batch

PREFILLS = (128, 512, 1024, 2048)
STEPS = ((1, 64), (1, 1024), (8, 600), (16, 600))
MATRIX_ROWS = 512
READ_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """ratio: how close we are to the limit, 1 being there, whichever way the unit counts."""

    name: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None
    threads: int


def measure(directory: Path, *, threads: int, dtype: str, rounds: int) -> list[Row]:
    """Load the model and measure every row ``rounds`` times in turns. Raises EngineError."""
    longest = max(*PREFILLS, *(context for _, context in STEPS))
    blocks = max(-(-longest // 64), *(count * -(-context // 64) for count, context in STEPS))
    engine = LlamaEngine.load(directory, device="cpu", dtype=dtype, threads=threads)
    assert engine.blocks_total >= blocks, "the default KV cache is larger than what is measured"
    size = engine.layout.block_tokens
    works: dict[str, Callable[[], object]] = {"matrix": _products(engine), "read": torch.zeros(READ_BYTES // 4).sum}
    for tokens in PREFILLS:
        works[f"prefill_{tokens}"] = _running(engine, prefill_batch(tokens, size))
    for count, context in STEPS:
        works[f"decode_{count}x{context}"] = _running(engine, step_batch(count, context, size))
    seconds = _in_turns(works, rounds)
    return _rows(engine, seconds, threads)


def _running(engine: LlamaEngine, batch: Batch) -> Callable[[], object]:
    return lambda: engine.run(batch)


def _in_turns(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, work in works.items():
                started = time.perf_counter()
                work()
                if number:
                    times[name].append(time.perf_counter() - started)
    return {name: median(samples) for name, samples in times.items()}


def _products(engine: LlamaEngine) -> Callable[[], None]:
    """Every layer's products at MATRIX_ROWS rows, nothing else."""
    config, dtype = engine.config, getattr(torch, engine.dtype)
    wide = torch.randn(MATRIX_ROWS, config.hidden_size).to(dtype)
    attended = torch.randn(MATRIX_ROWS, config.heads * config.head_dim).to(dtype)
    inner = torch.randn(MATRIX_ROWS, config.intermediate_size).to(dtype)
    layers = engine.decoder.layers

    def multiply() -> None:
        for layer in layers:
            layer.qkv(wide)
            layer.output(attended)
            layer.gate(wide)
            layer.up(wide)
            layer.down(inner)

    return multiply


def _rows(engine: LlamaEngine, seconds: dict[str, float], threads: int) -> list[Row]:
    config = engine.config
    qkv_rows = (config.heads + 2 * config.kv_heads) * config.head_dim
    per_layer = config.hidden_size * (qkv_rows + config.heads * config.head_dim + 3 * config.intermediate_size)
    inner, head = config.layers * per_layer, config.vocab_size * config.hidden_size
    item = getattr(torch, engine.dtype).itemsize
    matrix_rate = 2 * inner * MATRIX_ROWS / seconds["matrix"]
    read_rate = READ_BYTES / seconds["read"]
    token_bytes = engine.layout.block_bytes / engine.layout.block_tokens
    rows = [
        Row("matrix_rate", matrix_rate / 1e9, "GFLOP/s", None, None, threads),
        Row("memory_read", read_rate / 1e9, "GB/s", None, None, threads),
    ]
    for tokens in PREFILLS:
        took, floor = seconds[f"prefill_{tokens}"], 2 * (inner * tokens + head) / matrix_rate
        rows.append(Row(f"prefill_{tokens}", tokens / took, "tokens/s", tokens / floor, floor / took, threads))
    for count, context in STEPS:
        took = seconds[f"decode_{count}x{context}"]
        floor = ((inner + head) * item + count * context * token_bytes) / read_rate
        rows.append(Row(f"decode_{count}x{context}", took * 1e3, "ms", floor * 1e3, floor / took, threads))
    return rows
