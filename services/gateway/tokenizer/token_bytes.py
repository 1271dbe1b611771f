"""The bytes that each token stands for, for the two kinds of decoders whose text is nothing but their bytes.

    ByteLevel (GPT-2, Qwen, Llama 3)        each letter of a token is a byte
    Replace, ByteFallback, Fuse, Strip      a token is its text with spaces for "▁", or one byte as <0xE2>
    (Llama 2, Mistral)

The library decodes the second kind run by run: one byte of no character makes U+FFFD of all bytes beside it. Here
the bytes of a sequence are put together first, so that such a byte spoils only itself.
"""

import codecs
import json
import re
from collections.abc import Collection, Iterable, Sequence

from tokenizers import Tokenizer

from services.gateway.toy_text import byte_letters

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
WORDS = [SPACE, {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}

utf8 = codecs.getincrementaldecoder("utf-8")
"""Made with "replace", it gives U+FFFD for bytes of no character and keeps what may still become one."""


class TokenBytes:
    """Of one tokenizer. strips: whether a space at the very start of a text is left out."""

    def __init__(self, tokenizer: Tokenizer, *, letters: bool, strips: bool) -> None:
        self.strips = strips
        self._tokenizer = tokenizer
        self._letters = {letter: byte for byte, letter in enumerate(byte_letters())} if letters else None
        self._known: dict[int, bytes] = {}

    def __getitem__(self, token: int) -> bytes:
        """Empty for an id that is no token."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._bytes(self._tokenizer.id_to_token(token) or "")
        return found

    def text(self, tokens: Iterable[int]) -> str:
        """Of a whole sequence; bytes of no character read U+FFFD."""
        return self._join(tokens).decode("utf-8", "replace")

    def unfinished(self, tokens: Sequence[int], hidden: Collection[int] = ()) -> bytes:
        """The bytes at the end of a sequence that begin a character; at most three."""
        last = b""
        for token in reversed(tokens):
            last = last if token in hidden else self[token] + last
            if len(last) >= 3:
                break
        return next((last[-size:] for size in (3, 2, 1) if not utf8("replace").decode(last[-size:])), b"")

    def finished(self, tokens: Sequence[int]) -> str:
        """The text of a sequence without what is unfinished at its end."""
        whole = self._join(tokens)
        return whole[: len(whole) - len(self.unfinished(tokens))].decode("utf-8", "replace")

    def _join(self, tokens: Iterable[int]) -> bytes:
        whole = b"".join(self[token] for token in tokens)
        return whole.removeprefix(b" ") if self.strips else whole

    def _bytes(self, text: str) -> bytes:
        if self._letters is None:
            byte = BYTE.fullmatch(text)
            return bytes.fromhex(byte[1]) if byte else text.replace("▁", " ").encode()
        values = [self._letters.get(letter) for letter in text]
        known = [value for value in values if value is not None]
        return bytes(known) if len(known) == len(values) else text.encode()  # an added token that is no such letters


def token_bytes(tokenizer: Tokenizer) -> TokenBytes | None:
    """None for decoders whose text is more than its tokens' bytes."""
    decoder = None if tokenizer.decoder is None else json.loads(tokenizer.decoder.__getstate__())
    steps = decoder["decoders"] if decoder and decoder["type"] == "Sequence" else [decoder]
    if [step and step["type"] for step in steps] == ["ByteLevel"]:
        return TokenBytes(tokenizer, letters=True, strips=False)
    if steps in (WORDS, [*WORDS, STRIP]):
        return TokenBytes(tokenizer, letters=False, strips=STRIP in steps)
    return None
