"""GGUF files as users have them, and what llama.cpp makes of them: llama-cpp-python 0.3.36, run on 2026-11-30.

Ids of texts are what ``Llama(path, vocab_only=True).tokenize(text, add_bos=True, special=True)`` gave for the tiny
file that ``write_gguf`` makes with these fields; answers are greedy.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import pre_tokenizers

from tests.field.models import HEAD_DIM

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["t h", "th e", "1 2", "12 3", "! !", "Ġ t", "Ġt h", "Ġth e", "' s", "A B"]
ENDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
TEXTS = ["the the 12345 !!! it's", "<|im_start|>AB<|im_end|>\n", "<think>é 12!!", "a  b\n\n c", "'S 's ABthe"]


def byte_level(**changes: Any) -> dict[str, Any]:
    """Fields of a byte-level vocabulary; None removes one."""
    tokens = [*BYTES, *(merge.replace(" ", "") for merge in MERGES), *ENDS]
    types = [1] * (len(tokens) - 4) + [3, 3, 3, 4]
    usual = {
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": len(tokens) - 4,
        "tokenizer.ggml.eos_token_id": len(tokens) - 2,
        "tokenizer.ggml.add_bos_token": None,
    }
    return usual | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def sentencepiece(**changes: Any) -> dict[str, Any]:
    pieces = ["▁t", "he", "▁the", "th", "▁", "t", "h", "e", "a", "1", "▁a", "!", "é"]
    tokens = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], *pieces, "<think>"]
    usual = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces), 4],
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(rank) for rank in range(len(pieces))] + [0.0],
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": None,
    }
    return usual | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


FIELDS: dict[str, dict[str, Any]] = {
    "gpt-2": byte_level(),
    "smollm": byte_level(pre="smollm"),
    "llama-bpe": byte_level(pre="llama-bpe"),
    "qwen2": byte_level(pre="qwen2"),
    "tekken": byte_level(pre="tekken"),
    "default": byte_level(pre="default"),
    "no pre": byte_level(pre=None),
    "no token types": byte_level(token_type=None),
    "an end of a turn that is called normal": byte_level(token_type=[1] * (len(BYTES) + len(MERGES) + 4)),
    "a merge that can't come about": byte_level(merges=[*MERGES, "xy z", "qq the"]),
    "a merge that stands twice": byte_level(merges=[*MERGES, "t h", "the"]),
    "bos and eos": byte_level(add_bos_token=True, add_eos_token=True),
    "llama-bpe without bos": byte_level(pre="llama-bpe", add_bos_token=False),
    "sentencepiece": sentencepiece(),
    "sentencepiece, roles unsaid": sentencepiece(bos_token_id=None, eos_token_id=None),
    "sentencepiece, bos out of range": sentencepiece(bos_token_id=9999),
    "sentencepiece, no space in front": sentencepiece(add_space_prefix=False),
    "sentencepiece, no token types": sentencepiece(token_type=None),
    "sentencepiece, eos behind": sentencepiece(add_eos_token=True),
}

IDS: dict[str, list[list[int]]] = {
    "gpt-2": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "smollm": [
        [257, 220, 257, 220, 16, 17, 18, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 16, 17, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "llama-bpe": [
        [266, 257, 263, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [266, 267, 265, 268, 198],
        [266, 269, 127, 102, 220, 258, 260],
        [266, 64, 220, 220, 65, 198, 198, 220, 66],
        [266, 6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "qwen2": [
        [257, 220, 257, 220, 16, 17, 18, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 16, 17, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "tekken": [
        [266, 257, 263, 220, 16, 17, 18, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [266, 267, 265, 268, 198],
        [266, 269, 127, 102, 220, 16, 17, 260],
        [266, 64, 220, 220, 65, 198, 198, 220, 66],
        [266, 6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "default": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 6, 82],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "no pre": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 6, 82],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "no token types": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [27, 91, 72, 76, 62, 82, 83, 64, 81, 83, 91, 29, 265, 268, 198],
        [27, 256, 72, 77, 74, 29, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "an end of a turn that is called normal": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [27, 91, 72, 76, 62, 82, 83, 64, 81, 83, 91, 29, 265, 268, 198],
        [27, 256, 72, 77, 74, 29, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "a merge that can't come about": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "a merge that stands twice": [
        [257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "bos and eos": [
        [266, 257, 220, 257, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264, 268],
        [266, 267, 265, 268, 198, 268],
        [266, 269, 127, 102, 220, 258, 260, 268],
        [266, 64, 220, 220, 65, 198, 198, 220, 66, 268],
        [266, 6, 50, 220, 6, 82, 220, 265, 257, 268],
    ],
    "llama-bpe without bos": [
        [257, 263, 220, 259, 19, 20, 220, 260, 0, 220, 72, 83, 264],
        [267, 265, 268, 198],
        [269, 127, 102, 220, 258, 260],
        [64, 220, 220, 65, 198, 198, 220, 66],
        [6, 50, 220, 6, 82, 220, 265, 257],
    ],
    "sentencepiece": [
        [1, 261, 261, 263, 268, 53, 54, 55, 56, 263, 270, 270, 270, 263, 108, 264, 42, 118],
        [
            1,
            263,
            63,
            127,
            108,
            112,
            98,
            118,
            264,
            267,
            117,
            264,
            127,
            65,
            68,
            69,
            63,
            127,
            108,
            112,
            98,
            266,
            113,
            103,
            127,
            65,
            13,
        ],
        [1, 272, 263, 271, 263, 268, 53, 270, 270],
        [1, 269, 263, 263, 101, 13, 13, 263, 102],
        [1, 263, 42, 86, 263, 42, 118, 263, 68, 69, 264, 260],
    ],
    "sentencepiece, roles unsaid": [
        [1, 261, 261, 263, 268, 53, 54, 55, 56, 263, 270, 270, 270, 263, 108, 264, 42, 118],
        [
            1,
            263,
            63,
            127,
            108,
            112,
            98,
            118,
            264,
            267,
            117,
            264,
            127,
            65,
            68,
            69,
            63,
            127,
            108,
            112,
            98,
            266,
            113,
            103,
            127,
            65,
            13,
        ],
        [1, 272, 263, 271, 263, 268, 53, 270, 270],
        [1, 269, 263, 263, 101, 13, 13, 263, 102],
        [1, 263, 42, 86, 263, 42, 118, 263, 68, 69, 264, 260],
    ],
    "sentencepiece, bos out of range": [
        [1, 261, 261, 263, 268, 53, 54, 55, 56, 263, 270, 270, 270, 263, 108, 264, 42, 118],
        [
            1,
            263,
            63,
            127,
            108,
            112,
            98,
            118,
            264,
            267,
            117,
            264,
            127,
            65,
            68,
            69,
            63,
            127,
            108,
            112,
            98,
            266,
            113,
            103,
            127,
            65,
            13,
        ],
        [1, 272, 263, 271, 263, 268, 53, 270, 270],
        [1, 269, 263, 263, 101, 13, 13, 263, 102],
        [1, 263, 42, 86, 263, 42, 118, 263, 68, 69, 264, 260],
    ],
    "sentencepiece, no space in front": [
        [1, 264, 260, 261, 263, 268, 53, 54, 55, 56, 263, 270, 270, 270, 263, 108, 264, 42, 118],
        [
            1,
            63,
            127,
            108,
            112,
            98,
            118,
            264,
            267,
            117,
            264,
            127,
            65,
            68,
            69,
            63,
            127,
            108,
            112,
            98,
            266,
            113,
            103,
            127,
            65,
            13,
        ],
        [1, 272, 271, 263, 268, 53, 270, 270],
        [1, 267, 263, 263, 101, 13, 13, 263, 102],
        [1, 42, 86, 263, 42, 118, 263, 68, 69, 264, 260],
    ],
    "sentencepiece, no token types": [
        [1, 261, 261, 263, 268, 53, 54, 55, 56, 263, 270, 270, 270, 263, 108, 264, 42, 118],
        [
            1,
            263,
            63,
            127,
            108,
            112,
            98,
            118,
            264,
            267,
            117,
            264,
            127,
            65,
            68,
            69,
            63,
            127,
            108,
            112,
            98,
            266,
            113,
            103,
            127,
            65,
            13,
        ],
        [1, 263, 63, 262, 108, 113, 110, 65, 271, 263, 268, 53, 270, 270],
        [1, 269, 263, 263, 101, 13, 13, 263, 102],
        [1, 263, 42, 86, 263, 42, 118, 263, 68, 69, 264, 260],
    ],
    "sentencepiece, eos behind": [
        [1, 261, 261, 263, 268, 53, 54, 55, 56, 263, 270, 270, 270, 263, 108, 264, 42, 118, 2],
        [
            1,
            263,
            63,
            127,
            108,
            112,
            98,
            118,
            264,
            267,
            117,
            264,
            127,
            65,
            68,
            69,
            63,
            127,
            108,
            112,
            98,
            266,
            113,
            103,
            127,
            65,
            13,
            2,
        ],
        [1, 272, 263, 271, 263, 268, 53, 270, 270, 2],
        [1, 269, 263, 263, 101, 13, 13, 263, 102, 2],
        [1, 263, 42, 86, 263, 42, 118, 263, 68, 69, 264, 260, 2],
    ],
}
"""What llama.cpp makes of each of ``TEXTS``."""


def llama3_factors() -> npt.NDArray[np.float32]:
    """What llama.cpp's converter writes as rope_freqs.weight for a Llama 3 with a factor of 8."""
    found = []
    for pair in range(HEAD_DIM // 2):
        turns = 8192 / (2 * math.pi * 10000.0 ** (2 * pair / HEAD_DIM))
        smooth = (turns - 1.0) / 3.0
        found.append(1.0 if turns > 4 else 8.0 if turns < 1 else 1 / ((1 - smooth) / 8.0 + smooth))
    return np.array(found, np.float32)


ANSWERED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as it is": ({}, {}),
    "one size for each layer": (
        {"attention.head_count": [4, 4], "attention.head_count_kv": [4, 4], "feed_forward_length": [96, 96]},
        {},
    ),
    "sizes left out": ({"attention.head_count_kv": None, "rope.dimension_count": None, "rope.freq_base": None}, {}),
    "sizes of heads": ({"attention.key_length": 16, "attention.value_length": 16}, {}),
    "another theta": ({"rope.freq_base": 500.0}, {}),
    "linear scaling": ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {}),
    "a scaling factor without a type": ({"rope.scaling.factor": 4.0}, {}),
    "a scaling factor by its old name": ({"rope.scale_linear": 4.0}, {}),
    "both names of the factor": ({"rope.scaling.factor": 4.0, "rope.scale_linear": 2.0}, {}),
    "a factor, but no scaling": ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {}),
    "a factor of nothing": ({"rope.scaling.type": "linear", "rope.scaling.factor": 0.0}, {}),
    "Llama 3's factors": ({}, {"rope_freqs.weight": llama3_factors()}),
    "keys that say nothing": ({"vocab_size": 262, "expert_count": 0, "attention.causal": True, "logit_scale": 0.0}, {}),
}
"""What is changed in fields (without ``llama.``) and tensors of ``Tiny(attentive=True, layers=2)``."""
PROMPT = [(7 * position + 3) % 250 for position in range(60)]
ANSWERS: dict[str, list[int]] = {
    "as it is": [254, 105, 36, 183, 190, 120, 71, 234],
    "one size for each layer": [254, 105, 36, 183, 190, 120, 71, 234],
    "sizes left out": [254, 105, 36, 183, 190, 120, 71, 234],
    "sizes of heads": [254, 105, 36, 183, 190, 120, 71, 234],
    "another theta": [57, 105, 36, 22, 257, 97, 170, 17],
    "linear scaling": [2, 8, 124, 105, 25, 95, 41, 152],
    "a scaling factor without a type": [2, 8, 124, 105, 25, 95, 41, 152],
    "a scaling factor by its old name": [2, 8, 124, 105, 25, 95, 41, 152],
    "both names of the factor": [2, 8, 124, 105, 25, 95, 41, 152],
    "a factor, but no scaling": [254, 105, 36, 183, 190, 120, 71, 234],
    "a factor of nothing": [254, 105, 36, 183, 190, 120, 71, 234],
    "Llama 3's factors": [254, 105, 36, 183, 190, 120, 100, 60],
    "keys that say nothing": [254, 105, 36, 183, 190, 120, 71, 234],
}
"""What llama.cpp generates after ``PROMPT``, greedily, with a float32 KV cache (``type_k=0, type_v=0``)."""
