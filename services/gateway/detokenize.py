"""Turn token ids into text as they come, never splitting a character.

Where a tokenizer's text is its tokens' bytes, they are decoded as they come. Other tokens' texts depend on their
neighbours (word pieces), so a window is decoded whole each time, and what it adds is given out:

    settled              already given out, kept as context for the rest
    settled + pending    its text ends in U+FFFD while a character is incomplete: wait

Not tokenizers' DecodeStream, which does the same faster (0.5 us a token against 4 of a window): it
gives out the prompt's text again where the prompt ends inside a character, raises
on some byte sequences, and cannot be asked for what it holds back at the end.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from services.gateway.tokenizer.token_bytes import TokenBytes, utf8

Decode = Callable[[Sequence[int]], str]

REPLACEMENT = "\ufffd"
CONTEXT = 4
"""Tokens of the prompt that a window begins with, so that a leading space is seen for what it is."""

PENDING = 16
"""A character is 4 bytes, so at most 4 tokens; whatever is pending for longer are bytes of no character."""


class Detokenizer(Protocol):
    """The text of one stream."""

    def add(self, token: int) -> str:
        """The text that is certain now that ``token`` came; often a whole word, sometimes nothing."""

    def rest(self) -> str:
        """What is pending, once nothing more will come: an incomplete character reads U+FFFD."""


class ByteDetokenizer:
    """By the bytes of tokens. hidden: ids that have no text here (special tokens, if they are skipped).

    A character that the prompt begins is told by the answer that ends it. If none does, its bytes are the prompt's:
    they are told only if ``echoed``, as an echo of the prompt leaves them out.
    """

    __slots__ = ("_at_start", "_begun", "_bytes", "_decoder", "_hidden")

    def __init__(
        self,
        token_bytes: TokenBytes,
        *,
        hidden: Collection[int] = (),
        prompt: Sequence[int] = (),
        echoed: bool = False,
    ) -> None:
        begun = token_bytes.unfinished(prompt, hidden)
        self._bytes = token_bytes
        self._hidden = hidden
        self._decoder = utf8("replace")
        self._decoder.decode(begun)
        self._begun = b"" if echoed else begun
        self._at_start = token_bytes.strips and all(token in hidden for token in prompt)

    def add(self, token: int) -> str:
        data = b"" if token in self._hidden else self._bytes[token]
        if not data:
            return ""
        if self._at_start:
            self._at_start = False
            data = data.removeprefix(b" ")
        if self._begun and data:
            if _breaks(self._begun, data[:1]):
                self._decoder.reset()
            self._begun = b""
        return self._decoder.decode(data)

    def rest(self) -> str:
        if self._begun:
            self._decoder.reset()
        return self._decoder.decode(b"", final=True)


def _breaks(begun: bytes, byte: bytes) -> bool:
    """Whether a byte neither goes on with a character nor ends it."""
    try:
        utf8("strict").decode(begun + byte)
    except UnicodeDecodeError:
        return True
    return False


class WindowDetokenizer:
    """By the text of a few tokens together. hidden: ids that have no text here.

    What the prompt's text ends with while it is U+FFFD is told with the answer.
    """

    __slots__ = ("_decode", "_given", "_hidden", "_settled", "_window")

    def __init__(self, decode: Decode, *, hidden: Collection[int] = (), prompt: Sequence[int] = ()) -> None:
        self._decode = decode
        self._hidden = hidden
        self._window = [token for token in prompt[-CONTEXT:] if token not in hidden]
        self._settle(len(self._window), self._decode(self._window).rstrip(REPLACEMENT) if self._window else "")

    def add(self, token: int) -> str:
        if token in self._hidden:
            return ""
        window = self._window
        window.append(token)
        text = self._decode(window)
        incomplete = text.endswith(REPLACEMENT)
        overdue = len(window) - self._settled > PENDING
        if incomplete and not overdue:
            return ""
        new = text[self._given : -1] if incomplete else text[self._given :]
        if overdue:
            del window[:-CONTEXT]
            self._settle(0, self._decode(window).removesuffix(REPLACEMENT))
        elif new:
            del window[: self._settled]
            self._settle(len(window), None)
        return new

    def rest(self) -> str:
        text = self._decode(self._window)[self._given :] if len(self._window) > self._settled else ""
        self._window.clear()
        self._settle(0, "")
        return text

    def _settle(self, settled: int, given: str | None) -> None:
        """``settled`` tokens of the window are done with; of its text, ``given`` (None: all) was given out."""
        self._settled = settled
        self._given = len(self._decode(self._window) if given is None else given)
