"""Tiny models whose greedy answer is known: Hugging Face directories, and GGUF files in one part or several.

In a *steady* model attention and MLP add nothing, all embeddings share their first coordinate, and one row of the
head looks at that coordinate: greedy decoding gives the token ``says`` for ever. An *attentive* model has random
weights everywhere: its answer depends on its seed and on every token of the prompt.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

Tensors = dict[str, npt.NDArray[np.float32]]

HIDDEN, INNER, HEADS, HEAD_DIM, CONTEXT = 64, 96, 4, 16, 512
MERGES = (("t", "h"), ("th", "e"), ("i", "n"))
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tokenizer() -> Tokenizer:
    """Byte-level BPE as GPT-2 has it: an entry for each byte, ``MERGES``, then the special tokens."""
    entries = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in MERGES)]
    made = Tokenizer(models.BPE(vocab={text: id_ for id_, text in enumerate(entries)}, merges=list(MERGES)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return made


VOCABULARY: dict[str, int] = tokenizer().get_vocab()


@dataclass(frozen=True, slots=True)
class Tiny:
    """A Llama. says: the one token that a steady model gives; tied: the embedding is the head, too."""

    says: str = "a"
    attentive: bool = False
    seed: int = 0
    layers: int = 1
    tied: bool = False

    def tensors(self) -> Tensors:
        """By their names in a Hugging Face checkpoint; the head last."""
        random = np.random.default_rng(self.seed)

        def normal(*shape: int, scale: float = 0.3) -> npt.NDArray[np.float32]:
            values = (scale * random.standard_normal(shape)).astype(np.float32)
            return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)  # bf16's values: conversion loses nothing

        embedding, head = normal(len(VOCABULARY), HIDDEN), normal(len(VOCABULARY), HIDDEN, scale=0.02)
        if not self.attentive:
            embedding[:, 0], head[VOCABULARY[self.says], 0] = 2.0, 8.0
            embedding[VOCABULARY[self.says], 0] = 40.0 if self.tied else 2.0
        found = {"model.embed_tokens.weight": embedding}
        for layer in range(self.layers):
            found |= _layer(f"model.layers.{layer}", normal, 1.0 if self.attentive else 0.0)
        found["model.norm.weight"] = np.ones(HIDDEN, np.float32)
        if not self.tied:
            found["lm_head.weight"] = head if not self.attentive else normal(len(VOCABULARY), HIDDEN)
        return found

    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_hidden_layers": self.layers,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": CONTEXT,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.tied,
            "vocab_size": len(VOCABULARY),
            "dtype": "float32",
            "bos_token_id": VOCABULARY["<|endoftext|>"],
            "eos_token_id": VOCABULARY["<|im_end|>"],
        }


def _layer(prefix: str, normal: Callable[..., npt.NDArray[np.float32]], effect: float) -> Tensors:
    """effect: what attention and MLP add is multiplied by this."""
    width = HEADS * HEAD_DIM
    weights = {
        "input_layernorm": np.ones(HIDDEN, np.float32),
        "self_attn.q_proj": normal(width, HIDDEN),
        "self_attn.k_proj": normal(width, HIDDEN),
        "self_attn.v_proj": normal(width, HIDDEN),
        "self_attn.o_proj": effect * normal(HIDDEN, width),
        "post_attention_layernorm": np.ones(HIDDEN, np.float32),
        "mlp.gate_proj": normal(INNER, HIDDEN),
        "mlp.up_proj": normal(INNER, HIDDEN),
        "mlp.down_proj": effect * normal(HIDDEN, INNER),
    }
    return {f"{prefix}.{part}.weight": values.astype(np.float32) for part, values in weights.items()}


def write_directory(
    path: Path,
    model: Tiny = Tiny(),
    *,
    shards: int = 0,
    **files: Mapping[str, Any] | None,
) -> Path:
    """A Hugging Face directory. shards: 0 writes ``model.safetensors``, else that many files and their index.

    files: changes to JSON files by stem, such as ``config={"rope_theta": 5e5}``; a value of None removes the key.
    A file of another stem is written with just what is given.
    """
    path.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(path / "tokenizer.json"))
    usual: dict[str, dict[str, Any]] = {
        "config": model.config(),
        "tokenizer_config": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for stem in usual | files:
        content = usual.get(stem, {}) | dict(files.get(stem) or {})
        kept = {key: value for key, value in content.items() if value is not None or stem not in usual}
        (path / f"{stem}.json").write_text(json.dumps(kept, indent=1))
    write_weights(path, model.tensors(), shards=shards)
    return path


def write_weights(path: Path, tensors: Tensors, *, shards: int = 0) -> None:
    """safetensors in the directory ``path``, replacing what is there under the same names."""
    if not shards:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    index: dict[str, str] = {}
    for number in range(shards):
        shard = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        members = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        save_file({name: tensors[name] for name in members}, path / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(members, shard)
    document = {"metadata": {"total_size": sum(each.nbytes for each in tensors.values())}, "weight_map": index}
    (path / "model.safetensors.index.json").write_text(json.dumps(document))


def gguf_fields(model: Tiny = Tiny()) -> dict[str, Any]:
    """The metadata of a GGUF file of that model, but for ``general.architecture``."""
    texts = [text for text, _ in sorted(VOCABULARY.items(), key=lambda item: item[1])]
    return {
        "general.name": "tiny",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": INNER,
        "llama.block_count": model.layers,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": HEAD_DIM,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [3 if text in SPECIAL else 1 for text in texts],
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in MERGES],
        "tokenizer.ggml.bos_token_id": VOCABULARY["<|endoftext|>"],
        "tokenizer.ggml.eos_token_id": VOCABULARY["<|im_end|>"],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def write_gguf(
    path: Path,
    model: Tiny = Tiny(),
    *,
    tensors_per_part: int = 0,
    architecture: str = "llama",
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, npt.NDArray[Any] | None] | None = None,
) -> list[Path]:
    """A GGUF file, or its parts ``<stem>-00001-of-0000N.gguf`` with at most so many tensors each; their paths.

    fields, tensors: changes by GGUF's own names; None removes one.
    """
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=tensors_per_part)
    for key, value in (gguf_fields(model) | dict(fields or {})).items():
        _add_field(writer, key, value)
    weights = {gguf_name(name): rows_in_pairs(name, values) for name, values in model.tensors().items()}
    for name, values in (weights | dict(tensors or {})).items():
        if values is not None:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [path] if path.is_file() else sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))


def gguf_name(name: str) -> str:
    """GGUF's name of a tensor of a Hugging Face checkpoint."""
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("model.layers."):
        return f"{GGUF_NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"


def rows_in_pairs(name: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Q's and K's rows as llama.cpp wants them of a Llama: what is rotated together stands side by side."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return values
    halves = values.reshape(HEADS, 2, HEAD_DIM // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _add_field(writer: Any, key: str, value: Any) -> None:
    """writer: a gguf.GGUFWriter, which is not typed."""
    from gguf import GGUFValueType

    if value is None:
        return
    if isinstance(value, Iterable) and not isinstance(value, str):
        writer.add_array(key, list(value))
        return
    kinds = {
        bool: GGUFValueType.BOOL,
        int: GGUFValueType.UINT32,
        float: GGUFValueType.FLOAT32,
        str: GGUFValueType.STRING,
    }
    writer.add_key_value(key, value, kinds[type(value)])
