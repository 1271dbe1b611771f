"""Turn a GGUF file into a Hugging Face model directory, bf16, once.

Writes ``config.json``, ``generation_config.json`` and ``model.safetensors``; the tokenizer's
files are the caller's, and so is atomicity: give a fresh directory and rename it when
everything is in it. Tensors go through one at a time, so memory stays at the size of the
largest. Needs no torch.

llama.cpp reorders the rows of Q and K of the ``llama`` architecture for its interleaved
RoPE; they are put back here, so that the files equal what was converted to GGUF, but for
the quantisation.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.llama.gguf_config import GgufHeader, config_of, generation_config_of
from engine.port import EngineError, UnsupportedModel

Progress = Callable[[int, int], None]
"""Called with the tensors done and the tensors there are."""

OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NOT_WEIGHTS = ("rope_freqs.weight",)
"""Read by the configuration, which carries them as ``rope_scaling``."""


def convert(gguf_path: Path, out_dir: Path, *, on_progress: Progress | None = None) -> None:
    """Write the model of ``gguf_path`` into ``out_dir``, which is made if it is missing.

    Raises UnsupportedModel for an architecture, tensor or quantisation that is not known
    here, and EngineError for a file that is not GGUF.
    """
    import gguf  # late: its import costs a quarter of a second

    try:
        reader = gguf.GGUFReader(gguf_path)
    except (ValueError, IndexError) as error:
        raise EngineError(f"{gguf_path} can't be read as a GGUF file: {error}") from error
    header = _header(gguf_path, reader)
    config = config_of(header)
    renamed = {tensor.name: hugging_face_name(tensor.name, header.name) for tensor in reader.tensors}
    out_dir.mkdir(parents=True, exist_ok=True)
    for file_name, content in (("config.json", config), ("generation_config.json", generation_config_of(header))):
        (out_dir / file_name).write_text(json.dumps(content, indent=2) + "\n")
    _write_safetensors(
        out_dir / "model.safetensors",
        [(renamed[tensor.name], tensor) for tensor in reader.tensors if renamed[tensor.name]],
        config,
        header.name,
        on_progress,
    )


def hugging_face_name(name: str, model: str) -> str:
    """The tensor's name in a Hugging Face checkpoint; empty for one that is not a weight."""
    if name in NOT_WEIGHTS:
        return ""
    if name in OUTER:
        return OUTER[name]
    match name.split("."):
        case ["blk", layer, part, kind] if part in INNER and kind in ("weight", "bias"):
            return f"model.layers.{layer}.{INNER[part]}.{kind}"
    raise UnsupportedModel(f"{model} has a tensor {name}, which this engine does not know")


def restore_rows(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Undo llama.cpp's permutation: rows (2i, 2i+1) of a head become rows (i, i + head_dim/2).

    rows: [heads * head_dim, ..] of a projection's weight or bias.
    """
    head_dim = len(rows) // heads
    pairs = rows.reshape(heads, head_dim // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round to nearest even, as torch does; weights are finite, so NaN needs no care."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _header(path: Path, reader: Any) -> GgufHeader:
    """reader: a gguf.GGUFReader, which is not typed."""
    fields = {name: field.contents() for name, field in reader.fields.items() if not _is_vocabulary(name)}
    names = {tensor.name for tensor in reader.tensors}
    embedding = next((tensor for tensor in reader.tensors if tensor.name == "token_embd.weight"), None)
    if embedding is None:
        raise UnsupportedModel(f"{path.name} has no token embedding; it is not a whole language model")
    factors = next((tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight"), None)
    return GgufHeader(
        name=str(fields.get("general.name") or path.stem),
        fields=fields,
        tensors=frozenset(names),
        vocab_size=int(embedding.shape[-1]),
        rope_factors=None if factors is None else tuple(float(factor) for factor in factors),
    )


def _is_vocabulary(name: str) -> bool:
    """Hundreds of thousands of strings that take seconds to decode, and matter to the tokenizer only."""
    return name in (
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
    )


def _dequantized(tensor: Any, config: dict[str, Any], model: str) -> npt.NDArray[np.float32]:
    """tensor: a gguf.ReaderTensor. Returns float32 in the shape Hugging Face has."""
    from gguf.quants import dequantize

    try:
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise UnsupportedModel(f"{model}: tensor {tensor.name} has the type {tensor.tensor_type.name}") from error
    values = values.reshape(tuple(int(size) for size in reversed(tensor.shape)))
    if config["model_type"] == "llama" and ".attn_q." in tensor.name:
        return restore_rows(values, config["num_attention_heads"])
    if config["model_type"] == "llama" and ".attn_k." in tensor.name:
        return restore_rows(values, config["num_key_value_heads"])
    return values


def _write_safetensors(
    path: Path,
    tensors: list[tuple[str, Any]],
    config: dict[str, Any],
    model: str,
    on_progress: Progress | None,
) -> None:
    """The format is a length (u64), a JSON header and the tensors' bytes: so it can be written as a stream."""
    tensors = sorted(tensors, key=lambda pair: pair[0])
    head = json.dumps(_safetensors_header(tensors)).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for done, (_, tensor) in enumerate(tensors, start=1):
            file.write(bfloat16_bits(_dequantized(tensor, config, model)).tobytes())
            if on_progress is not None:
                on_progress(done, len(tensors))


def _safetensors_header(tensors: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return header
