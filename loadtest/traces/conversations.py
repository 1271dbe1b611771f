"""ShareGPT's JSON: conversations as texts, without times.

    [{"id": "a", "conversations": [{"from": "human", "value": "What is a lease?"}, {"from": "gpt", "value": ..}, ..]}]

OpenAI's ``messages`` of ``role`` and ``content`` are read as well. Texts become lengths; texts that are equal are
equal tokens, so what conversations have in common from their beginning (a system prompt) they share.
"""

from collections.abc import Callable, Iterable
from itertools import count

from loadtest.request import Span
from loadtest.traces.trace import Conversation, Trace, TraceError

CountTokens = Callable[[str], int]

BYTES_PER_TOKEN = 4
"""Of English text in today's vocabularies, about; of other scripts 2 to 4."""

ANSWERS = frozenset({"gpt", "assistant", "chatgpt", "bard", "bing", "model"})
PROMPTS = frozenset({"human", "user", "system", "developer", "tool", "function", "function_response", "observation"})


FIELDS = ("conversations", "conversation", "messages", "items")
"""That hold the messages."""


def has_texts(document: object) -> bool:
    """Whether it is a conversation rather than a row of lengths."""
    if not isinstance(document, dict) or "input_length" in document:
        return False
    return any(isinstance(document.get(name), list) for name in FIELDS)


def estimated_tokens(text: str) -> int:
    """Where no tokenizer is at hand."""
    return -(-len(text.encode("utf-8", errors="replace")) // BYTES_PER_TOKEN)


def parse_conversations(
    documents: Iterable[tuple[int, object]], *, source: str = "trace", tokens: CountTokens | None = None
) -> Trace:
    """documents: conversations with their numbers. tokens: how many a text has. Raises TraceError."""
    reader = _Reader(tokens or estimated_tokens)
    read = [reader.conversation(document, f"{source} conversation {number}") for number, document in documents]
    kept = tuple(each for each in read if each.turns)
    if not kept:
        raise TraceError(f"{source} has no conversation in which a prompt is answered")
    notes = ["its requests have lengths and prefixes of these texts, not their words"]
    if tokens is None:
        notes.append(f"lengths are estimated, {BYTES_PER_TOKEN} bytes a token: --tokenizer FILE counts them")
    if len(kept) < len(read):
        notes.append(f"{len(read) - len(kept)} of {len(read)} conversations have no answered prompt and are left out")
    return Trace([], conversations=kept, notes=tuple(notes))


class _Reader:
    """Numbers texts in the order in which they come."""

    def __init__(self, tokens: CountTokens) -> None:
        self._tokens, self._contents, self._numbers = tokens, dict[str, int](), count()

    def conversation(self, document: object, where: str) -> Conversation:
        """What is said before an answer is its prompt; what follows the last answer is not asked."""
        turns: list[tuple[tuple[Span, ...], Span]] = []
        new: list[Span] = []
        for place, said in enumerate(_messages(document, where)):
            is_answer, text = _said(said, f"{where}, message {place + 1}")
            if not (span := self._span(text)).tokens:
                continue
            if is_answer and new:
                turns.append((tuple(new), span))
                new = []
            elif not is_answer:
                new.append(span)
        return Conversation(tuple(turns))

    def _span(self, text: str) -> Span:
        content = self._contents.get(text)
        if content is None:
            content = self._contents[text] = next(self._numbers)
        return Span(content, self._tokens(text))


def _messages(document: object, where: str) -> list[object]:
    if not isinstance(document, dict):
        raise TraceError(f"{where} is not a JSON object, but {type(document).__name__}")
    for name in FIELDS:
        if isinstance(found := document.get(name), list):
            return found
    has = ", ".join(str(name)[:40] for name in list(document)[:12]) or "nothing"
    raise TraceError(f"{where} has neither conversations nor messages, but {has}")


def _said(message: object, where: str) -> tuple[bool, str]:
    """Whether it is an answer, and its text."""
    if not isinstance(message, dict):
        raise TraceError(f"{where} is not a JSON object, but {type(message).__name__}")
    speaker, text = message.get("from", message.get("role")), message.get("value", message.get("content"))
    if not isinstance(speaker, str) or speaker.lower() not in ANSWERS | PROMPTS:
        raise TraceError(f"{where}: from is {str(speaker)[:40]!r}, neither human nor gpt")
    if isinstance(text, list):  # OpenAI's parts
        parts = [part.get("text") for part in text if isinstance(part, dict)]
        text = "".join(part for part in parts if isinstance(part, str))
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise TraceError(f"{where}: value is {type(text).__name__}, not a text")
    return speaker.lower() in ANSWERS, text
