"""Text completions: from prompts to an order, and the JSON of its answer."""

from typing import Any

from services.gateway import sse
from services.gateway.errors import too_long
from services.gateway.order import Deployment, Order, check_choices, check_ids, check_length, order, tokens_of
from services.gateway.schemas import CompletionBody
from services.gateway.shape import Shape, Told
from services.gateway.text import Text
from services.gateway.text_threads import Pieces
from services.gateway.wishes import Wishes

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, from the time of this endpoint."""


def completion_pieces(body: CompletionBody, text: Text, wishes: Wishes, deployment: Deployment) -> Pieces[Order]:
    """Tokenize, name, a prompt at a time; takes milliseconds, so not for the event loop's thread. Raises ApiError.

    Choices and characters are counted before anything is tokenized.
    """
    longest = deployment.longest
    check_choices(len(body.prompt), body.n or 1, "prompt")
    for prompt in body.prompt:
        if isinstance(prompt, str):
            check_length(prompt, text, longest, "prompt")
    prompts: list[list[int]] = []
    for prompt in body.prompt:
        prompts.append((yield from _tokens(prompt, body, text, longest)))
        yield
    wanted, param = body.wanted_tokens
    if wanted is None:  # the default is no wish: it never makes a prompt too long
        wanted = max(1, min(DEFAULT_MAX_TOKENS, longest - max(map(len, prompts))))
    return order(
        "cmpl",
        body,
        prompts,
        text,
        deployment,
        max_tokens=(wanted, param),
        prompt_param="prompt",
        wishes=wishes,
        echo=bool(body.echo),
    )


def _tokens(prompt: str | list[int], body: CompletionBody, text: Text, longest: int) -> Pieces[list[int]]:
    if isinstance(prompt, str):
        special = body.add_special_tokens is not False
        return (yield from tokens_of(prompt, text, longest, "prompt", add_special_tokens=special))
    if len(prompt) >= longest:
        raise too_long("prompt", longest=longest, prompt_tokens=len(prompt))
    wrong = check_ids(prompt, text, "prompt")
    if wrong is not None:
        raise wrong
    return prompt


class CompletionShape(Shape):
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def opening(self, index: int) -> bytes:
        """The prompt, for those who want to see it again."""
        if not (self._telling.echo or self._telling.return_token_ids):
            return b""
        prompt = ""
        if self._telling.return_token_ids:
            prompt = f',"prompt_token_ids":{sse.dumps(list(self._order.choices[index].prompt))}'
        said = self._said(self._echo(index))
        return self._chunk(f'{{"index":{index},{said},"logprobs":null,"finish_reason":null{prompt}}}')

    def _said(self, text: str) -> str:
        return f'"text":{sse.quote(text)}'

    def _choice(self, told: Told) -> dict[str, Any]:
        document: dict[str, Any] = {"text": self._echo(told.index) + told.text}
        if self._telling.return_token_ids:
            document["prompt_token_ids"] = list(self._order.choices[told.index].prompt)
        return document

    def _echo(self, index: int) -> str:
        return self._order.prompts[index // self._order.n] if self._telling.echo else ""
