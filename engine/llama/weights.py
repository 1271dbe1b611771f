"""Read a Hugging Face directory's safetensors, and say by digest what was read."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from engine.llama.config import ModelConfig
from engine.port import EngineError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(directory: Path) -> list[Path]:
    """The safetensors of a model, one or as the index lists them. Raises EngineError where there are none."""
    if (directory / INDEX).is_file():
        try:
            shards = json.loads((directory / INDEX).read_text())["weight_map"].values()
        except (ValueError, KeyError, AttributeError) as error:
            raise EngineError(f"{directory / INDEX} is no index of weights") from error
        return [directory / shard for shard in sorted(set(shards))]
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    raise EngineError(f"{directory} has no {SINGLE} (other formats, pickles among them, are never read)")


def digest(directory: Path, cache: Path | None = None) -> str:
    """Hex digest of config and weights; file hashes are cached in ``cache`` by path, size and mtime."""
    known = _Known(cache)
    whole = hashlib.sha256()
    for path in (directory / "config.json", *weight_files(directory)):
        whole.update(f"{path.name} {known.hash_of(path)}\n".encode())
    known.save()
    return whole.hexdigest()


class _Known:
    """File hashes by what tells whether a file has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._hashes: dict[str, str] = {}
        self._changed = False
        if path is not None and path.is_file():
            try:
                document = json.loads(path.read_text())
                self._hashes = {str(key): str(value) for key, value in document.items()}
            except (OSError, ValueError, AttributeError):
                self._hashes = {}  # a cache: what can't be read is computed again

    def hash_of(self, path: Path) -> str:
        try:
            facts = path.stat()
            key = f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"
            if key not in self._hashes:
                with path.open("rb") as file:
                    self._hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
                self._changed = True
            return self._hashes[key]
        except OSError as error:
            raise EngineError(f"{path} can't be read: {error.strerror}") from error

    def save(self) -> None:
        if self._path is None or not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(f".{id(self)}")
            fresh.write_text(json.dumps(self._hashes))
            fresh.replace(self._path)
        except OSError:
            return  # the next start hashes again


class Weights:
    """Tensors by name, on ``device`` in ``dtype``, each read when it is asked for."""

    def __init__(self, directory: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._name, self._dtype, self._device = config.name, dtype, device
        self._places = dict(self._scan(weight_files(directory)))

    def _scan(self, files: list[Path]) -> Iterator[tuple[str, Path]]:
        for path in files:
            try:
                with safe_open(path, "pt") as file:
                    yield from ((key, path) for key in list(file.keys()))
            except (SafetensorError, OSError) as error:
                raise EngineError(f"{path} can't be read as safetensors: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str, *shape: int) -> torch.Tensor:
        """The tensor, which must have this shape. Raises EngineError naming it."""
        if name not in self._places:
            raise EngineError(f"{self._name} has no weight {name}")
        with safe_open(self._places[name], "pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise EngineError(f"{self._name}: {name} is {list(tensor.shape)} instead of {list(shape)}")
        return tensor.to(self._device, self._dtype)
