"""The torch engine: a Llama-family decoder over paged KV, on the CPU or a CUDA device.

``LlamaEngine`` is ``engine.port.Engine``; what it refuses, it refuses while loading. torch's
number of threads is the process's: one engine sets it for all.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from engine.bounds import assert_within
from engine.llama.attention import Attention, TorchAttention, plan
from engine.llama.checkpoint import stored_dtype
from engine.llama.config import ModelConfig, read_config
from engine.llama.decoder import Decoder, Runner, TorchRunner
from engine.llama.layers import INSTRUCTIONS, load_layers
from engine.llama.layers.decoder import LayersDecoder
from engine.llama.native import load_kernels
from engine.llama.native_attention import NativeAttention
from engine.llama.pages import Pages, layout_of
from engine.llama.sampling import choose
from engine.llama.weights import Weights
from engine.port import EngineError, OnLayer, StepResult
from engine.synthetic import prefill_batch, step_batch
from kvstore.layout import KvLayout
from scheduler.batch import Batch, Copy, Slice
from scheduler.estimate import PrefillSample, StepSample, TransferSample, fit_profile
from scheduler.vocabulary import Profile

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.bfloat16}
"""What a checkpoint's dtype is run in; float16 has no packed products on a CPU, bf16 has its range and more."""

DEFAULT_KV_BYTES = 1 << 30
"""On a CPU: 45,000 tokens of SmolLM2-135M (23 KiB a token). Touched, and so taken, only when used."""

CUDA_SHARE = 0.85
"""Of the device memory that is free once the weights are there; the rest is for activations."""

WARM_PREFILLS, WARM_STEPS = (64, 256, 512), ((1, 64), (1, 1024), (8, 64), (8, 512))
"""Tokens; (sequences, context). About two seconds for SmolLM2-135M on one core."""

log = logging.getLogger(__name__)


class LlamaEngine:
    """See the module and the port."""

    def __init__(
        self,
        config: ModelConfig,
        runner: Runner,
        pages: Pages,
        *,
        max_model_len: int,
        weights: str,
        device: torch.device,
    ) -> None:
        self.config = config
        self.layout: KvLayout = pages.layout
        self.blocks_total = pages.blocks
        self.max_model_len = max_model_len
        self.vocab_size = config.vocab_size
        self.weights = weights
        self.dtype = str(pages.tensor.dtype).split(".")[-1]
        self.runner, self._pages, self._device = runner, pages, device

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        block_tokens: int = 64,
        kv_cache_bytes: int | None = None,
        max_model_len: int | None = None,
        kernels: bool = True,
        layers: Sequence[str] = tuple(INSTRUCTIONS),
    ) -> "LlamaEngine":
        """The model in a Hugging Face directory. Raises EngineError, or UnsupportedModel by name.

        kernels: use the C kernels where they were built;
        layers: those of whole layers too, where processor, dtype and model allow it: the first of these instructions.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        config = read_config(directory)
        where = _device(device)
        kind = _dtype(config, dtype, directory)
        if max_model_len is not None and max_model_len > config.max_position_embeddings:
            raise EngineError(
                f"max_model_len {max_model_len} is beyond the context of {config.name}, "
                f"{config.max_position_embeddings} tokens"
            )
        longest = max_model_len or config.max_position_embeddings
        with torch.inference_mode():
            stored = Weights(directory, config, kind, where)
            whole = load_layers(config, kind, where, block_tokens, layers) if kernels else None
            compiled = load_kernels(kind, where, config.head_dim) if kernels and whole is None else None
            plain = Decoder(config, stored, compiled) if whole is None else None  # on CUDA before room is measured
            blocks = _blocks(layout_of(config, block_tokens, kind), kv_cache_bytes, where)
            pages = Pages(config, blocks, block_tokens, kind, where)
            runner: Runner
            if whole is not None:
                runner = LayersDecoder(config, stored, pages, longest, whole)
            else:
                assert plain is not None
                attention: Attention = TorchAttention(config, pages, longest)
                if compiled is not None:
                    attention = NativeAttention(config, pages, longest, compiled)
                runner = TorchRunner(plain, attention)
        if longest > blocks * block_tokens:
            log.warning("context is cut to what the KV cache holds tokens=%d asked=%d", blocks * block_tokens, longest)
            longest = blocks * block_tokens
        return cls(
            config,
            runner,
            pages,
            max_model_len=longest,
            weights=stored.digest(),
            device=where,
        )

    @torch.inference_mode()
    def run(self, batch: Batch, on_layer: OnLayer | None = None) -> StepResult:
        slices = batch.slices
        x = self._hidden(batch, on_layer)
        wanting = [index for index, piece in enumerate(slices) if piece.sampling is not None]
        tokens: list[int | None] = [None] * len(slices)
        if wanting:
            logits = self.runner.logits(x[self._last_rows(slices, wanting)])
            for index, token in zip(wanting, choose(logits, [slices[index] for index in wanting]), strict=True):
                tokens[index] = token
        return StepResult(tuple(tokens))

    @torch.inference_mode()
    def logits(self, batch: Batch) -> torch.Tensor:
        """Run the batch; the logits of every token in it, [tokens, vocab]. For oracles, not for serving."""
        return self.runner.logits(self._hidden(batch, None))

    def _hidden(self, batch: Batch, on_layer: OnLayer | None) -> torch.Tensor:
        assert_within(self, batch)
        ids = torch.tensor([token for piece in batch.slices for token in piece.tokens], device=self._device)
        todo = plan(batch.slices, self.layout.block_tokens, self._device)
        return self.runner.hidden(ids, todo, on_layer)

    def _last_rows(self, slices: Sequence[Slice], wanting: Sequence[int]) -> torch.Tensor:
        ends: list[int] = []
        for piece in slices:
            ends.append((ends[-1] if ends else 0) + len(piece.tokens))
        return torch.tensor([ends[index] - 1 for index in wanting], device=self._device)

    # -- slots ----------------------------------------------------------------------------------------------------

    def attach(self, arena: memoryview, slot_bytes: int) -> None:
        self._pages.attach(arena, slot_bytes)

    def detach(self) -> None:
        self._pages.detach()

    @torch.inference_mode()
    def lift(self, copies: Sequence[Copy]) -> None:
        self._pages.lift(copies)

    @torch.inference_mode()
    def lower(self, copies: Sequence[Copy]) -> tuple[int, ...]:
        return self._pages.lower(copies)

    @torch.inference_mode()
    def lower_layer(self, copies: Sequence[Copy], layer: int) -> None:
        self._pages.lower_layer(copies, layer)

    # -- what it costs ----------------------------------------------------------------------------------------------

    def warm_up(self) -> Profile:
        size, room = self.layout.block_tokens, self.blocks_total * self.layout.block_tokens
        fits = min(self.max_model_len, room)
        prefills = [
            PrefillSample(tokens, 0, self._best(partial(self.run, prefill_batch(tokens, size))))
            for tokens in sorted({min(tokens, fits) for tokens in WARM_PREFILLS})
        ]
        steps = [
            StepSample(count, count * context, self._best(partial(self.run, step_batch(count, context, size))))
            for count, context in sorted({(count, min(context, fits)) for count, context in WARM_STEPS})
            if count * -(-context // size) <= self.blocks_total
        ]
        return fit_profile(prefills, steps, self._transfers())

    def _best(self, work: Callable[[], object]) -> float:
        """The shorter of two runs: the first pays for first use, and a neighbour's noise only ever adds."""
        times = []
        for _ in range(2):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return max(min(times), 1e-6)

    def _transfers(self) -> list[TransferSample]:
        """Lifts of one block and of several, from memory of our own."""
        size, most = self.layout.slot_bytes, min(8, self.blocks_total)
        self.attach(memoryview(bytearray(size * most)), size)
        try:
            return [
                TransferSample(
                    count * self.layout.block_bytes,
                    self._best(partial(self.lift, [Copy(i, i) for i in range(count)])),
                )
                for count in sorted({1, most})
            ]
        finally:
            self.detach()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"there is no device {name!r}") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise EngineError(f"the device {name!r} can't be used here")
    return device


def _dtype(config: ModelConfig, name: str, directory: Path) -> torch.dtype:
    """The dtype to run in; ``auto`` is the configuration's, else that of the stored weights."""
    wanted = (config.dtype or stored_dtype(directory)) if name == "auto" else name
    if wanted not in DTYPES:
        raise EngineError(f"{config.name}: the dtype {wanted!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[wanted]


def _blocks(layout: KvLayout, kv_cache_bytes: int | None, device: torch.device) -> int:
    """How many blocks the KV cache has."""
    size = kv_cache_bytes
    if size is None:
        if device.type == "cuda":
            size = int(torch.cuda.mem_get_info(device)[0] * CUDA_SHARE)
        else:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            size = min(DEFAULT_KV_BYTES, free // 4)
    blocks = size // layout.block_bytes
    if blocks < 1:
        raise EngineError(f"a KV cache of {size} bytes holds no block: one takes {layout.block_bytes} bytes")
    return blocks
