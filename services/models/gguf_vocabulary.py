"""What a GGUF file says of its tokens, checked: texts, types, merges, scores and the roles of special tokens.

What the file leaves out is taken as llama.cpp takes it (``llama-vocab.cpp`` in llama-cpp-python 0.3.36); where that
would be a guess, the file is refused.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from engine.llama.gguf_config import special_token_id
from services.models.errors import ModelError

Fields = Mapping[str, Any]
"""A GGUF file's metadata by full key; values are numbers, strings, booleans or lists of them."""

_TURN_ENDS = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> "
    "<EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> [e~[ "
    "<｜end▁of▁sentence｜> "
    "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>"
)
TURN_ENDS = frozenset(_TURN_ENDS.split())
"""What ends an answer, by its text (``special_eog_ids``): control tokens, whatever type a file gives them."""


class TokenType(IntEnum):
    """The values of ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """tokens, types: by id. kind: ``tokenizer.ggml.model``."""

    name: str
    kind: str
    tokens: Sequence[str]
    types: Sequence[int]
    fields: Fields

    @property
    def ids(self) -> dict[str, int]:
        return {text: id_ for id_, text in enumerate(self.tokens)}

    @property
    def special(self) -> list[str]:
        """Tokens that text can't spell and that are left out where text is shown; [] in a file without any."""
        hidden = (TokenType.CONTROL, TokenType.UNKNOWN)
        pairs = zip(self.tokens, self.types, strict=True)
        return [text for text, type_ in pairs if type_ in hidden or text in TURN_ENDS]

    @property
    def added(self) -> list[str]:
        """Tokens that are found in a text before it is split."""
        pairs = zip(self.tokens, self.types, strict=True)
        return [text for text, type_ in pairs if type_ == TokenType.USER_DEFINED and text not in TURN_ENDS]

    def role(self, key: str) -> str | None:
        """The text of the token with that role, such as ``bos``; None where there is none."""
        id_ = special_token_id(self.fields, key, len(self.tokens))
        return None if id_ is None else self.tokens[id_]

    def flag(self, key: str, default: bool) -> bool:
        stated = self.fields.get(f"tokenizer.ggml.{key}")
        return default if stated is None else bool(stated)

    def scores(self) -> list[float]:
        """Of each token. Raises ModelError where the file has none: SentencePiece can't be had without them."""
        found = self.fields.get("tokenizer.ggml.scores")
        if found is None or len(found) < len(self.tokens):
            raise ModelError(f"{self.name} has no score for each of its tokens (tokenizer.ggml.scores)")
        return [float(score) for score in found[: len(self.tokens)]]

    def merges(self) -> list[tuple[str, str]]:
        """The merges of a byte-level vocabulary, without those that can never apply.

        Raises ModelError where there are none, and for a merge whose parts can occur while they or what they make
        are no tokens: llama.cpp would make single bytes of it, which a tokenizer.json can't express.
        """
        lines = self.fields.get("tokenizer.ggml.merges")
        if lines is None:
            raise ModelError(f"{self.name} has no merges (tokenizer.ggml.merges), so its text can't be split as it was")
        known, kept = self.ids, dict[tuple[str, str], None]()
        for line in lines:
            left, _, right = str(line).partition(" ")
            parts = [part in known for part in (left, right)]
            possible = all(there or len(part) == 1 for there, part in zip(parts, (left, right), strict=True))
            if not left or not right or not possible:
                continue  # one part is never made, so llama.cpp never comes to this merge either
            if not all(parts) or left + right not in known:
                missing = next(text for text in (left, right, left + right) if text not in known)
                raise ModelError(f"{self.name} has the merge {line!r}, but no token {missing!r}")
            kept.setdefault((left, right))
        return list(kept)


def vocabulary_of(fields: Fields) -> GgufVocabulary:
    """Raises ModelError for a file without tokens, or whose tokens can't be told apart."""
    name, kind = str(fields.get("general.name", "this model")), str(fields.get("tokenizer.ggml.model"))
    found = fields.get("tokenizer.ggml.tokens")
    if not isinstance(found, list) or not found:
        raise ModelError(f"{name} has no vocabulary (tokenizer.ggml.tokens)")
    tokens = [str(text) or f"[EMPTY_{id_}]" for id_, text in enumerate(found)]
    if len(set(tokens)) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise ModelError(f"{name} has the token {twice!r} twice in its vocabulary")
    types = fields.get("tokenizer.ggml.token_type")
    if types is None:
        types = [TokenType.NORMAL] * len(tokens)
    if not isinstance(types, list) or len(types) < len(tokens):
        raise ModelError(
            f"{name} does not have a type for each of its {len(tokens)} tokens (tokenizer.ggml.token_type)"
        )
    if fields.get("tokenizer.ggml.suppress_tokens"):
        raise ModelError(f"{name} forbids some tokens (tokenizer.ggml.suppress_tokens), which is not done here")
    return GgufVocabulary(name, kind, tokens, [int(type_) for type_ in types[: len(tokens)]], fields)
