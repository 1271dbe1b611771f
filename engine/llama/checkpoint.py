"""Which tensors a Hugging Face directory holds, and whether they are all of the model.

Reads the headers of its safetensors only, and needs no torch: so a model that is half
there is refused when it is fetched or converted, not by a worker minutes later.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.llama.config import ModelConfig, lfs_pointer, read_config
from engine.port import EngineError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library has it."""

IGNORED = ("rotary_emb.inv_freq",)
"""Ends of names that older checkpoints of Llama store though they follow from config.json; transformers 5.24 drops
them, too."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor is. dtype: as safetensors names it, such as ``BF16``."""

    path: Path
    dtype: str
    shape: tuple[int, ...]


def weight_files(directory: Path) -> list[Path]:
    """The safetensors of a model: the single file, else the shards that the index lists.

    Where both are there the single file is meant (transformers 5.24). Raises EngineError where there is neither.
    """
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if (directory / INDEX).is_file():
        return [directory / shard for shard in sorted(set(_weight_map(directory).values()))]
    raise EngineError(f"{directory} has no {SINGLE}{_instead(directory)}")


def stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """All tensors of the checkpoint by name.

    Raises EngineError for a shard that is missing, cut off or not safetensors, for a tensor that the index promises
    and no shard holds, and for one that stands in two shards, as either could be meant.
    """
    files = weight_files(directory)
    for path in files:
        if not path.is_file():
            raise EngineError(f"{path} can't be read: the index lists this shard, but there is no such file")
    found: dict[str, StoredTensor] = {}
    for path in files:
        for name, tensor in _tensors_in(path).items():
            if name in found:
                raise EngineError(f"{directory}: {name} stands in both {found[name].path.name} and {path.name}")
            found[name] = tensor
    if files != [directory / SINGLE]:
        for name, shard in _weight_map(directory).items():
            if name not in found:
                raise EngineError(f"{directory / shard} has no weight {name}, which the index says is there")
    return found


def stored_dtype(directory: Path) -> str:
    """The dtype of the embedding, as torch names it, such as ``bfloat16``. Raises EngineError."""
    embedding = stored_tensors(directory).get(EMBEDDING)
    if embedding is None:
        raise EngineError(f"{directory} has no weight {EMBEDDING}")
    return {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}.get(embedding.dtype, embedding.dtype)


def check_directory(directory: Path) -> None:
    """Raises EngineError or UnsupportedModel unless this is the whole of a model that the engine runs."""
    config = read_config(directory)
    check_whole(config, {name: tensor.shape for name, tensor in stored_tensors(directory).items()})


def check_whole(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises EngineError that names the first tensor which the model lacks, has in another shape, or does not know."""
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in shapes:
            raise EngineError(f"{config.name} has no weight {name}")
        if shapes[name] != shape:
            raise EngineError(f"{config.name}: {name} is {list(shapes[name])} instead of {list(shape)}")
    unknown = sorted(name for name in shapes if name not in expected and not _superfluous(name))
    if unknown:
        others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise EngineError(f"{config.name} has the weight {unknown[0]}{others}, which its config.json has no place for")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the model needs, [outputs, inputs] for projections. A tied head is not among them."""
    size, inner, vocab, head = config.hidden_size, config.intermediate_size, config.vocab_size, config.head_dim
    rows = {"q": config.heads * head, "k": config.kv_heads * head, "v": config.kv_heads * head}
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (vocab, size), "model.norm.weight": (size,)}
    if not config.tied:
        found[HEAD] = (vocab, size)
    for layer in range(config.layers):
        at, attention = f"model.layers.{layer}.", f"model.layers.{layer}.self_attn."
        found |= {f"{at}{norm}.weight": (size,) for norm in ("input_layernorm", "post_attention_layernorm")}
        found |= {f"{attention}{name}_proj.weight": (count, size) for name, count in rows.items()}
        found |= {f"{attention}o_proj.weight": (size, rows["q"])}
        found |= {f"{at}mlp.{name}_proj.weight": (inner, size) for name in ("gate", "up")}
        found |= {f"{at}mlp.down_proj.weight": (size, inner)}
        if config.qkv_bias:
            found |= {f"{attention}{name}_proj.bias": (count,) for name, count in rows.items()}
        if config.output_bias:
            found |= {f"{attention}o_proj.bias": (size,)}
        if config.qk_norm:
            found |= {f"{attention}{name}_norm.weight": (head,) for name in "qk"}
    return found


def _superfluous(name: str) -> bool:
    """A stored head of a model whose head is tied is looked at when it is loaded."""
    return name == HEAD or name.endswith(IGNORED)


def _weight_map(directory: Path) -> dict[str, str]:
    path = directory / INDEX
    try:
        shards = json.loads(path.read_text())["weight_map"]
        if shards and all(isinstance(shard, str) for shard in shards.values()):
            return dict(shards)
    except OSError as error:
        raise EngineError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # said below
    raise EngineError(f"{path} is no index of weights{lfs_pointer(path)}")


def _instead(directory: Path) -> str:
    """What is there in place of weights, for the operator."""
    partial = next((path.name for path in _listing(directory) if path.name.endswith((".incomplete", ".part"))), None)
    if partial is not None:
        return f", but {partial}: its download was interrupted"
    shards = [path.name for path in _listing(directory) if path.suffix == ".safetensors"]
    if shards:
        return f" and no {INDEX}, but {shards[0]}"
    return " (other formats, pickles among them, are never read)"


def _listing(directory: Path) -> Iterable[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else ()


def _tensors_in(path: Path) -> dict[str, StoredTensor]:
    """From the header of one file, whose size has to be what the header says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = file.read(length) if length <= min(size, MAX_HEADER_BYTES) else b""
    except OSError as error:
        raise EngineError(f"{path} can't be read: {error.strerror}") from error
    try:
        header = json.loads(head)
        header.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
        found = {name: _stored(path, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        why = lfs_pointer(path) or ": it is another kind of file, or cut off within its header"
        raise EngineError(f"{path} can't be read as safetensors{why}") from error
    promised = 8 + length + max(ends, default=0)
    if promised != size:
        raise EngineError(f"{path} can't be read as safetensors: it has {size:,} bytes, its header says {promised:,}")
    return found


def _stored(path: Path, entry: Mapping[str, Any]) -> StoredTensor:
    return StoredTensor(path, str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
