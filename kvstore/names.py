"""Name blocks by their content: equal names mean equal whole prefixes.

A name chains over its parent's name, so it stands for every token from the root
up to the end of its block. The root carries what else the KV depends on: the
fingerprint of model and layout, the adapter, and the tenant's cache salt.

    name = SHA-256(parent || token ids as u32 little-endian)[:16]
    root = SHA-256(fingerprint || len(adapter) || adapter || len(salt) || salt)[:16]

Lengths (u32 little-endian) keep adapter "ab" with salt "c" apart from "a" with "bc".
"""

import hashlib
from collections.abc import Sequence
from typing import NewType

import numpy as np

BlockName = NewType("BlockName", bytes)
"""16 bytes; a root's name has the same form."""

NAME_BYTES = 16


def root_name(fingerprint: bytes, *, adapter: str = "", cache_salt: str = "") -> BlockName:
    """The parent of every first block of one deployment, adapter and tenant."""
    digest = hashlib.sha256(fingerprint)
    for part in (adapter.encode(), cache_salt.encode()):
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(part)
    return BlockName(digest.digest()[:NAME_BYTES])


def child_name(parent: BlockName, tokens: Sequence[int]) -> BlockName:
    """The name of the block that holds ``tokens`` after ``parent``; a short last block is named the same way."""
    ids = np.asarray(tokens, dtype="<u4")
    return BlockName(hashlib.sha256(parent + ids.tobytes()).digest()[:NAME_BYTES])


def block_names(root: BlockName, tokens: Sequence[int], block_tokens: int) -> list[BlockName]:
    """The names of the full blocks of ``tokens``, in prefix order; a rest shorter than a block has none here."""
    ids = np.asarray(tokens, dtype="<u4")
    names: list[BlockName] = []
    parent = root
    for start in range(0, len(ids) - block_tokens + 1, block_tokens):
        parent = BlockName(hashlib.sha256(parent + ids[start : start + block_tokens].tobytes()).digest()[:NAME_BYTES])
        names.append(parent)
    return names
