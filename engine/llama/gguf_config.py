"""What a GGUF header says, as a Hugging Face ``config.json`` and ``generation_config.json``.

Pure: a header in, dictionaries out. Floats were stored in 32 bits; they come out as the
shortest decimal that gives those bits again (1e-05, not 9.999999747378752e-06).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.port import UnsupportedModel

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""GGUF calls Mistral and SmolLM2 ``llama`` too."""

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of every Llama 3.1, 3.2 and 3.3; GGUF keeps only the factors that follow from them, which are checked."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """name: for people. fields: metadata by key. tensors: the names there are. rope_factors: llama.cpp's divisors of
    each RoPE frequency, [head_dim / 2], where it has them."""

    name: str
    fields: Mapping[str, Any]
    tensors: frozenset[str]
    vocab_size: int
    rope_factors: tuple[float, ...] | None = None

    @property
    def architecture(self) -> str:
        return str(self.fields.get("general.architecture"))

    def get(self, key: str) -> Any:
        """The value of the architecture's own key, or None."""
        return self.fields.get(f"{self.architecture}.{key}")

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise UnsupportedModel(f"{self.name} does not say its {self.architecture}.{key}")
        return value

    def number(self, key: str) -> float:
        return shortest(self.need(key))


def shortest(value: float) -> float:
    """The float64 nearest to the shortest decimal that names this float32."""
    return float(str(np.float32(value)))


def config_of(header: GgufHeader) -> dict[str, Any]:
    """The ``config.json``. Raises UnsupportedModel with the reason."""
    if header.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedModel(f"{header.name} has the architecture {header.architecture}; this engine runs {known}")
    if header.get("expert_count"):
        raise UnsupportedModel(f"{header.name} is a mixture of experts, which this engine does not run")
    heads = int(header.need("attention.head_count"))
    hidden = int(header.need("embedding_length"))
    head_dim = int(header.get("attention.key_length") or hidden // heads)
    if (header.get("rope.dimension_count") or head_dim) != head_dim:
        raise UnsupportedModel(f"{header.name} rotates only a part of each head, which this engine does not run")
    return {
        "architectures": [ARCHITECTURES[header.architecture]],
        "model_type": header.architecture,
        "hidden_size": hidden,
        "intermediate_size": int(header.need("feed_forward_length")),
        "num_hidden_layers": int(header.need("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(header.get("attention.head_count_kv") or heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": header.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": int(header.need("context_length")),
        "rope_theta": shortest(header.get("rope.freq_base") or 10000.0),
        "rope_scaling": _rope_scaling(header, head_dim),
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in header.tensors,
        "sliding_window": header.get("attention.sliding_window") or None,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "vocab_size": header.vocab_size,
        "torch_dtype": "bfloat16",
        **_token_ids(header),
    }


def generation_config_of(header: GgufHeader) -> dict[str, Any]:
    """The ``generation_config.json``: ids only; GGUF has no sampling defaults. Several end ids make a list."""
    return _token_ids(header)


def _token_ids(header: GgufHeader) -> dict[str, Any]:
    def of(kind: str) -> int | None:
        value = header.fields.get(f"tokenizer.ggml.{kind}_token_id")
        return None if value is None else int(value)

    ends = list(dict.fromkeys(token for kind in ("eos", "eot", "eom") if (token := of(kind)) is not None))
    ids = {
        "bos_token_id": of("bos"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": of("padding"),
    }
    return {key: value for key, value in ids.items() if value not in (None, [])}


def _rope_scaling(header: GgufHeader, head_dim: int) -> dict[str, Any] | None:
    kind = str(header.get("rope.scaling.type") or "none")
    factor = header.get("rope.scaling.factor")
    if header.rope_factors is not None:
        return _llama3(header, head_dim)
    match kind:
        case "none":
            return None
        case "linear":
            return {"rope_type": "linear", "factor": shortest(factor or 1.0)}
        case "yarn":
            original = int(header.need("rope.scaling.original_context_length"))
            return {
                "rope_type": "yarn",
                "factor": shortest(header.need("rope.scaling.factor")),
                "original_max_position_embeddings": original,
            }
    raise UnsupportedModel(f"{header.name} has the RoPE scaling {kind}, which this engine does not run")


def _llama3(header: GgufHeader, head_dim: int) -> dict[str, Any]:
    """Find the scaling whose factors these are: the largest one is its ``factor``, the rest is the same for all."""
    factors = header.rope_factors
    assert factors is not None
    scaling = {"rope_type": "llama3", "factor": shortest(max(factors)), **LLAMA3}
    expected = _llama3_factors(scaling, shortest(header.get("rope.freq_base") or 10000.0), head_dim)
    if len(expected) != len(factors) or not np.allclose(expected, factors, rtol=1e-3):
        raise UnsupportedModel(f"{header.name} has RoPE factors that are not Llama 3's, which this engine does not run")
    return scaling


def _llama3_factors(scaling: Mapping[str, Any], theta: float, head_dim: int) -> list[float]:
    """What each frequency is divided by; as llama.cpp's converter computes it."""
    original = scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    divisors = []
    for pair in range(head_dim // 2):
        turns = original / (2 * math.pi * theta ** (2 * pair / head_dim))
        if turns > high:
            divisors.append(1.0)
        elif turns < low:
            divisors.append(factor)
        else:
            smooth = (turns - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return divisors
