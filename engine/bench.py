"""What the torch engine costs, against what this machine can do at all, measured in the same run.

    matrix rate  FLOP/s of this model's own packed products at 512 rows, all layers after another,
                 by oneDNN or by our own kernels, whichever is faster here
    copy         bytes/s of copying an array that fits no cache
    read         bytes/s of summing an array that fits no cache, or of multiplying its halves (two streams)

Prefill's limit is 2 FLOP per weight and token (embedding left out, the head for the last token only) at the
matrix rate: attention is not in it. A step's limit is reading weights and KV once at the read rate. Floors and
rows are measured in turns, and medians are given: a neighbour's noise then falls on both. Where the engine runs
whole layers in C, rows that begin with ``baseline_`` are the way that it would take else, in those same turns.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from engine.llama.config import ModelConfig
from engine.llama.engine import LlamaEngine
from engine.llama.layers import Layers, load_layers
from engine.llama.layers.decoder import LayersDecoder, pack
from engine.llama.linear import make_linear
from engine.synthetic import prefill_batch, step_batch
from scheduler.batch import Batch

PREFILLS = (128, 512, 1024, 2048)
STEPS = ((1, 64), (1, 1024), (8, 600), (16, 600))
MATRIX_ROWS = 512
BASELINE = "baseline_"
COMPARED = ("prefill_512", "decode_1x64", "decode_8x600")
READ_BYTES = 512 << 20
READ = ("read in one stream", "read in two streams")
COPY = "copy"
MATRIX = ("matrix by oneDNN", "matrix by our kernels")
"""Of each the faster one is the floor."""


@dataclass(frozen=True, slots=True)
class Row:
    """ratio: how close we are to the limit, 1 being there, whichever way the unit counts."""

    name: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None
    threads: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know of the engine that was measured, besides its rows. kv_tokens: whose KV has room."""

    layers: int
    width: int
    parameters: int
    kv_heads: int
    head_width: int
    bytes_per_value: int
    max_model_len: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    facts: Facts
    rows: list[Row]


def measure(directory: Path, *, threads: int, dtype: str, rounds: int) -> Measured:
    """Load the model and measure every row ``rounds`` times in turns. Raises EngineError."""
    longest = max(*PREFILLS, *(context for _, context in STEPS))
    blocks = max(-(-longest // 64), *(count * -(-context // 64) for count, context in STEPS))
    engine = LlamaEngine.load(directory, device="cpu", dtype=dtype, threads=threads)
    assert engine.blocks_total >= blocks, "the default KV cache is larger than what is measured"
    works = _floor_works(engine) | _engine_works(engine)
    if isinstance(engine.runner, LayersDecoder):
        other = LlamaEngine.load(directory, device="cpu", dtype=dtype, threads=threads, layers=())
        works |= {BASELINE + name: work for name, work in _engine_works(other).items() if name in COMPARED}
    seconds = _in_turns(works, rounds)
    return Measured(_facts(engine), _rows(engine, seconds, threads))


def _floor_works(engine: LlamaEngine) -> dict[str, Callable[[], object]]:
    size = engine.layout.block_tokens
    return _matrix_works(engine.config, getattr(torch, engine.dtype), size) | _read_works()


def _engine_works(engine: LlamaEngine) -> dict[str, Callable[[], object]]:
    size = engine.layout.block_tokens
    works: dict[str, Callable[[], object]] = {}
    for tokens in PREFILLS:
        works[f"prefill_{tokens}"] = _running(engine, prefill_batch(tokens, size))
    for count, context in STEPS:
        works[f"decode_{count}x{context}"] = _running(engine, step_batch(count, context, size))
    return works


def _facts(engine: LlamaEngine) -> Facts:
    """Norms and biases are left out: a few thousandths of all weights."""
    config = engine.config
    products = config.layers * sum(outputs * inputs for outputs, inputs in _shapes(config))
    return Facts(
        layers=config.layers,
        width=config.hidden_size,
        parameters=products + (1 if config.tied else 2) * config.vocab_size * config.hidden_size,
        kv_heads=config.kv_heads,
        head_width=config.head_dim,
        bytes_per_value=getattr(torch, engine.dtype).itemsize,
        max_model_len=config.max_position_embeddings,
        kv_tokens=engine.blocks_total * engine.layout.block_tokens,
    )


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


def _read_works() -> dict[str, Callable[[], object]]:
    array = torch.zeros(READ_BYTES // 4)
    halves = array.chunk(2)
    target = torch.empty_like(halves[0])
    return {
        READ[0]: array.sum,
        READ[1]: lambda: torch.dot(*halves),
        COPY: lambda: target.copy_(halves[0]),
    }


def _matrix_works(config: ModelConfig, dtype: torch.dtype, block_tokens: int) -> dict[str, Callable[[], object]]:
    """One layer's products after another at MATRIX_ROWS rows and nothing else, each way that this machine has.

    Weights are random, of the model's shapes, and as many as the model's: they must not stay in a cache.
    """
    shapes = _shapes(config)
    lefts = {inputs: torch.randn(MATRIX_ROWS, inputs).to(dtype) for _, inputs in shapes}
    weights = [torch.randn(outputs, inputs).to(dtype) for _ in range(config.layers) for outputs, inputs in shapes]
    linears = [(make_linear(weight), lefts[weight.shape[1]]) for weight in weights]
    works: dict[str, Callable[[], object]] = {MATRIX[0]: lambda: [linear(x) is None for linear, x in linears]}
    ours = load_layers(config, dtype, torch.device("cpu"), block_tokens)
    if ours is not None:
        works[MATRIX[1]] = _our_products(ours, [pack(weight) for weight in weights], weights, lefts)
    return works


def _our_products(
    ours: Layers, packed: list[torch.Tensor], weights: list[torch.Tensor], lefts: dict[int, torch.Tensor]
) -> Callable[[], None]:
    out = torch.empty((MATRIX_ROWS, max(weight.shape[0] for weight in weights)), dtype=torch.bfloat16)
    calls = [
        (lefts[weight.shape[1]].data_ptr(), tensor.data_ptr(), out.data_ptr(), MATRIX_ROWS, *weight.shape)
        for tensor, weight in zip(packed, weights, strict=True)
    ]
    kept = (packed, lefts, out)

    def multiply() -> None:
        assert kept
        for call in calls:
            ours.product(*call, torch.get_num_threads())

    return multiply


def _shapes(config: ModelConfig) -> list[tuple[int, int]]:
    """(outputs, inputs) of one layer's products, gate and up together."""
    size, inner, heads = config.hidden_size, config.intermediate_size, config.heads * config.head_dim
    return [(heads + 2 * config.kv_heads * config.head_dim, size), (size, heads), (2 * inner, size), (size, inner)]


def _rows(engine: LlamaEngine, seconds: dict[str, float], threads: int) -> list[Row]:
    config = engine.config
    inner = config.layers * sum(outputs * inputs for outputs, inputs in _shapes(config))
    head = config.vocab_size * config.hidden_size
    item = getattr(torch, engine.dtype).itemsize
    matrix_rate = 2 * inner * MATRIX_ROWS / min(seconds[name] for name in MATRIX if name in seconds)
    read_rate = READ_BYTES / min(seconds[name] for name in READ)
    token_bytes = engine.layout.block_bytes / engine.layout.block_tokens
    rows = [
        Row("matrix_rate", matrix_rate / 1e9, "GFLOP/s", None, None, threads),
        Row("memory_read", read_rate / 1e9, "GB/s", None, None, threads),
        Row("memory_copy", READ_BYTES / 2 / seconds[COPY] / 1e9, "GB/s", None, None, threads),
    ]
    for tokens in PREFILLS:
        floor = 2 * (inner * tokens + head) / matrix_rate
        for name, took in _taken(seconds, f"prefill_{tokens}"):
            rows.append(Row(name, tokens / took, "tokens/s", tokens / floor, floor / took, threads))
    for count, context in STEPS:
        floor = ((inner + head) * item + count * context * token_bytes) / read_rate
        for name, took in _taken(seconds, f"decode_{count}x{context}"):
            rows.append(Row(name, took * 1e3, "ms", floor * 1e3, floor / took, threads))
    return rows


def _taken(seconds: dict[str, float], name: str) -> list[tuple[str, float]]:
    """A row, and its baseline where there is one."""
    return [(each, seconds[each]) for each in (name, BASELINE + name) if each in seconds]
