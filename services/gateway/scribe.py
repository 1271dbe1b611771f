"""Write down one choice: from a story's token ids to the text that its client sees.

Knows where the text ends: at a stop id (which has no text of its own unless asked
for), or where a stop string is complete. Tokens after that are neither shown nor
counted, however many a worker was ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.vocabulary import FinishReason, Limits
from services.gateway.detokenize import Detokenizer
from services.gateway.stopping import Stopped, StopStrings


@dataclass(frozen=True, slots=True)
class Wording:
    """How a request wants its text. eos_id: the end token that ends it without a stop_reason, None if none does."""

    stops: tuple[str, ...] = ()
    include_stop: bool = False
    skip_special_tokens: bool = True
    eos_id: int | None = None


class Scribe:
    """One choice. count: tokens it has, the one that ended it included. finish_reason: None while it goes on.

    stop_reason: the stop string, or the id of the stop token, as vLLM has it: none for the tokenizer's own end token.
    """

    def __init__(self, wording: Wording, limits: Limits, detokenizer: Detokenizer) -> None:
        self._detokenizer = detokenizer
        self._stops = StopStrings(wording.stops, include=wording.include_stop)
        self._include_stop = wording.include_stop
        self._limits = limits
        self._eos_id = wording.eos_id
        self.count = 0
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None

    def write(self, tokens: Sequence[int]) -> str:
        """The text that is certain once these tokens came."""
        text = ""
        for token in tokens:
            if self.finish_reason is not None:
                break
            self.count += 1
            if token in self._limits.stop_ids:
                if self._include_stop:
                    text += self._feed(self._detokenizer.add(token))
                self.stop_reason = None if token == self._eos_id else token
                return text + self.finish(FinishReason.STOP)
            text += self._feed(self._detokenizer.add(token))
        return text

    def finish(self, reason: FinishReason) -> str:
        """The text that was held back, now that nothing more comes; nothing if it has finished already."""
        if self.finish_reason is not None:
            return ""
        text = self._feed(self._detokenizer.rest())
        if self.finish_reason is None:
            text += self._stops.rest()
            self.finish_reason = reason
        return text

    def _feed(self, piece: str) -> str:
        if not piece:
            return ""
        fed = self._stops.feed(piece, armed=self.count > self._limits.min_tokens)
        if not isinstance(fed, Stopped):
            return fed
        self.finish_reason, self.stop_reason = FinishReason.STOP, fed.stop
        return fed.text
