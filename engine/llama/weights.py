"""Read a Hugging Face directory's safetensors, and say by digest what was read."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open

from engine.llama.checkpoint import EMBEDDING, HEAD, check_whole, stored_tensors
from engine.llama.config import ModelConfig
from engine.port import EngineError


class Weights:
    """Tensors by name, on ``device`` in ``dtype``, each read when it is asked for.

    Every tensor is copied out of its file and hashed as it was copied. So the digest is of exactly what runs,
    whatever becomes of the files meanwhile, and nothing has to be recognised by name, size or time. Hashing the
    copy costs 0.13 s per GB (measured on SmolLM2-135M, one core); reading a file for it a second time would cost more.
    """

    def __init__(self, directory: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        """Raises EngineError where the directory does not hold the whole model."""
        self._config, self._dtype, self._device = config, dtype, device
        self._stored = stored_tensors(directory)
        self._hashes: dict[str, str] = {}
        check_whole(config, {name: tensor.shape for name, tensor in self._stored.items()})

    def get(self, name: str, *shape: int) -> torch.Tensor:
        """The tensor, which must have this shape. Raises EngineError naming it."""
        tensor = self._read(name)
        if tuple(tensor.shape) != shape:
            raise EngineError(f"{self._config.name}: {name} is {list(tensor.shape)} instead of {list(shape)}")
        return tensor.to(self._device, self._dtype)

    def head(self, embedding: torch.Tensor) -> torch.Tensor:
        """The head, [vocab, hidden]; ``embedding`` itself where they are tied.

        A checkpoint that is said to be tied and stores another head than its embedding runs with the stored one,
        as in transformers 5.24.
        """
        shape = (self._config.vocab_size, self._config.hidden_size)
        if not self._config.tied:
            return self.get(HEAD, *shape)
        if HEAD not in self._stored or torch.equal(self._read(HEAD), self._read(EMBEDDING)):
            return embedding
        return self.get(HEAD, *shape)

    def digest(self) -> str:
        """Hex digest of the configuration and of every tensor that was read: name, dtype, shape and bytes.

        XXH3 with 128 bits tells tensors apart that differ by accident or training; it is no defence
        against files that were forged.
        """
        whole = hashlib.sha256(repr(replace(self._config, name="")).encode())
        for name in sorted(self._hashes):
            whole.update(f"{name} {self._hashes[name]}\n".encode())
        return whole.hexdigest()

    def _read(self, name: str) -> torch.Tensor:
        """A copy in memory of our own: the file is mapped, and may be written to or cut while the model runs."""
        if name not in self._stored:
            raise EngineError(f"{self._config.name} has no weight {name}")
        path = self._stored[name].path
        try:
            with safe_open(path, "pt") as file:
                tensor: torch.Tensor = file.get_tensor(name).clone()
        except (SafetensorError, OSError) as error:
            raise EngineError(f"{path} can't be read as safetensors: {error}") from error
        if name not in self._hashes:
            data = tensor.reshape(-1).view(torch.uint8).numpy().data
            self._hashes[name] = f"{tensor.dtype} {list(tensor.shape)} {xxhash.xxh3_128_hexdigest(data)}"
        return tensor
