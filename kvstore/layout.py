"""What one block looks like in a slot, and who may share blocks with whom.

``KvLayout`` is a value: the bytes of one block in each layer, one after the
other. The order of axes inside a layer is the engine's choice and is carried as
text, so that it is part of the fingerprint; nobody here interprets it.
``Identity`` is everything two processes must agree on before they exchange a block.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import accumulate

PAGE_BYTES = 4096
"""Slots are whole pages, so that direct I/O can go straight between SSD and arena."""

PROTOCOL = 3
"""Raised whenever messages, names or slots change their meaning."""


@dataclass(frozen=True, slots=True)
class KvLayout:
    """The shape of one block's KV as bytes.

    block_tokens: tokens in a full block. layer_bytes: bytes of one block in each
    layer, in layer order; layers may differ. axes: the engine's own description of
    the bytes of a layer, e.g. ``"2 kv_heads=3 tokens=64 head_dim=64 bfloat16"``.
    """

    block_tokens: int
    layer_bytes: tuple[int, ...]
    axes: str

    def __post_init__(self) -> None:
        if self.block_tokens < 1 or not self.layer_bytes or min(self.layer_bytes) < 1:
            raise ValueError(f"a layout needs at least one token and one byte in every layer: {self}")

    @property
    def layers(self) -> int:
        return len(self.layer_bytes)

    @property
    def block_bytes(self) -> int:
        """The bytes of one block that carry meaning; the rest of a slot is padding."""
        return sum(self.layer_bytes)

    @property
    def slot_bytes(self) -> int:
        """``block_bytes``, rounded up to whole pages."""
        return -(-self.block_bytes // PAGE_BYTES) * PAGE_BYTES

    @property
    def layer_offsets(self) -> tuple[int, ...]:
        """Where each layer's slice starts within the slot; ``layers`` entries."""
        return tuple(accumulate(self.layer_bytes, initial=0))[:-1]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a deployment is: one model, one dtype, one layout, one protocol.

    model: the served model's name, for people. weights: hex digest of weights and
    config. dtype: of the arithmetic and the KV, e.g. ``bfloat16``.
    """

    model: str
    weights: str
    dtype: str
    block_tokens: int
    layout: str
    protocol: int = PROTOCOL

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that root every name; the model's display name is not part of it."""
        parts = {key: value for key, value in asdict(self).items() if key != "model"}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()

    def differences(self, other: "Identity") -> str | None:
        """A sentence that says what ``other`` has differently, or None where both may share blocks."""
        if self == other or self.fingerprint == other.fingerprint:  # every report asks; hashing takes 20 us
            return None
        words: Mapping[str, str] = {
            "protocol": "protocol version",
            "weights": "model weights",
            "dtype": "dtype",
            "block_tokens": "block size (tokens)",
            "layout": "KV layout",
        }
        differing = [
            f"{words[field.name]} {getattr(other, field.name)} instead of {getattr(self, field.name)}"
            for field in fields(self)
            if field.name != "model" and getattr(self, field.name) != getattr(other, field.name)
        ]
        models = "" if self.model == other.model else f" (model {other.model} instead of {self.model})"
        return f"this deployment differs in {', '.join(differing)}{models}"
