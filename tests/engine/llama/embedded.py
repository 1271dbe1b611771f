"""The embedded model for tests marked ``model``: its engine, its prompts, and transformers' opinion of an answer."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from engine.llama import LlamaEngine
from services.models import ModelError
from services.models.embedded import EMBEDDED_MODEL
from services.models.resolve import resolve_model
from services.runtime.paths import default_data_dir

LENGTHS = (
    1,
    2,
    7,
    31,
    63,
    64,
    65,
    100,
    127,
    128,
    129,
    191,
    192,
    193,
    256,
    257,
    320,
    383,
    449,
    512,
    705,
    1023,
    1216,
    1500,
)
"""On multiples of the block of 64 tokens, just under and just over them, and between."""

WORDS = """the a one every small large old new river city engine moon tide block letter winter story teacher answer
question goes comes finds keeps loses writes reads moves over under before after because although and or but slowly
quickly never always where when who what seven twelve . , ? :"""


def model_directory() -> Path:
    try:
        return resolve_model(EMBEDDED_MODEL, default_data_dir()).directory
    except ModelError as error:
        pytest.skip(f"the embedded model can't be had: {error}")


def load_embedded(dtype: str, **settings: Any) -> LlamaEngine:
    """400 MB of KV or so: every path has room for eight sequences of 1,564 tokens."""
    return LlamaEngine.load(
        model_directory(), device="cpu", dtype=dtype, kv_cache_bytes=1 << 30, max_model_len=2048, **settings
    )


def prompts() -> list[tuple[int, ...]]:
    """One of each length: sentences of a kind, all different from the first token on."""
    tokenizer = Tokenizer.from_file(str(model_directory() / "tokenizer.json"))
    return [_text(tokenizer, length) for length in LENGTHS]


def _text(tokenizer: Tokenizer, length: int) -> tuple[int, ...]:
    chance = random.Random(length)
    words = [f"{length}: What comes next?", *chance.choices(WORDS.split(), k=length)]
    return tuple(tokenizer.encode(" ".join(words)).ids[:length])


class Reference:
    """transformers in float32, asked for what follows each token of an answer; it remembers what it was asked."""

    def __init__(self) -> None:
        transformers.utils.logging.disable_progress_bar()
        model = transformers.AutoModelForCausalLM.from_pretrained(model_directory(), dtype=torch.float32)
        self._model = model.eval()
        self.logits = cache(self._logits)

    def _logits(self, prompt: tuple[int, ...], output: tuple[int, ...]) -> torch.Tensor:
        """[output tokens, vocab]: what each output token was chosen from, in one teacher-forced pass."""
        tokens = torch.tensor([[*prompt, *output[:-1]]])
        with torch.inference_mode():
            logits: torch.Tensor = self._model(tokens, use_cache=False, logits_to_keep=len(output)).logits[0]
        return logits


def shortfalls(logits: torch.Tensor, output: Sequence[int]) -> torch.Tensor:
    """How far below the best logit each chosen one lies; 0 where it is the best.  # [output tokens]"""
    return logits.max(-1).values - logits.gather(-1, torch.tensor(output)[:, None])[:, 0]
