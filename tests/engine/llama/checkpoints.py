"""Small random models made by transformers, and what transformers itself makes of them.

The only place where tests import transformers: its import takes seconds, once.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

SIZES: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}

LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
"""At 64 original positions all three of its ranges of frequencies occur in a head of 32."""

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, tied, linear rope": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LINEAR}),
    "llama, biased, llama3 rope, heads of 32": (
        "Llama",
        {"attention_bias": True, "head_dim": 32, "rope_parameters": LLAMA3},
    ),
    "llama, no groups, heads of 64": ("Llama", {"num_key_value_heads": 3, "head_dim": 64}),
    "mistral, heads of 24": ("Mistral", {"head_dim": 24, "sliding_window": None}),
    "qwen2": ("Qwen2", {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 96}),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3, heads of 32": ("Qwen3", {"head_dim": 32}),
    "qwen3, biased, no groups, heads of 24": (
        "Qwen3",
        {"head_dim": 24, "num_key_value_heads": 3, "attention_bias": True, "tie_word_embeddings": True},
    ),
}


def save_model(directory: Path, family: str, *, shard_size: str = "5GB", seed: int = 0, **changes: Any) -> Any:
    """A random float32 model of the family, saved in ``directory``; returns transformers' model.

    Its weights are large enough that attention is not flat and tokens depend on what came long before.
    """
    config = getattr(transformers, f"{family}Config")(**SIZES | changes, initializer_range=0.2)
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # else zeros and ones, which would test nothing
                parameter.data += 0.2 * torch.randn_like(parameter)
    save(model, directory, shard_size=shard_size)
    return model


def save(model: Any, directory: Path, *, shard_size: str = "5GB") -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        model.save_pretrained(directory, max_shard_size=shard_size)


def reference_logits(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """What transformers says comes after each token: [tokens, vocab] float32."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([list(tokens)]), use_cache=False).logits[0].float()
    return logits
