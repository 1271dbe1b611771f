"""Text completions: from prompts to an order, and the JSON of its answer."""

from typing import Any

from services.gateway import sse
from services.gateway.order import Deployment, Order, check_ids, check_length, order
from services.gateway.schemas import CompletionBody
from services.gateway.shape import Shape, Told
from services.gateway.text import Text
from services.gateway.wishes import Wishes

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, from the time of this endpoint."""


def completion_order(body: CompletionBody, text: Text, wishes: Wishes, deployment: Deployment) -> Order:
    """Tokenize, name; takes milliseconds, so not for the event loop's thread. Raises ApiError."""
    prompts = [_tokens(prompt, body, text, deployment.longest) for prompt in body.prompt]
    wanted = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if body.max_tokens is None:  # the default is no wish: it never makes a prompt too long
        wanted = max(1, min(wanted, deployment.longest - max(map(len, prompts))))
    return order(
        "cmpl",
        body,
        prompts,
        text,
        deployment,
        max_tokens=(wanted, "max_tokens"),
        prompt_param="prompt",
        wishes=wishes,
        echo=bool(body.echo),
    )


def _tokens(prompt: str | list[int], body: CompletionBody, text: Text, longest: int) -> list[int]:
    if isinstance(prompt, str):
        check_length(prompt, text, longest, "prompt")
        return text.encode(prompt, add_special_tokens=body.add_special_tokens is not False)
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
