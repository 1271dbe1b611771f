"""Chat completions: from a conversation to an order, and the JSON of its answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.gateway import sse
from services.gateway.document import TOO_LARGE, check_counts
from services.gateway.errors import ApiError, bad_request
from services.gateway.order import Deployment, Order, check_length, order, tokens_of
from services.gateway.schemas import ChatBody, ChatMessage, ConversationBody
from services.gateway.shape import Shape, Told, Usage
from services.gateway.template import Message, TemplateRefused
from services.gateway.text import Text
from services.gateway.text_threads import at_once
from services.gateway.thinking import thinking_variables
from services.gateway.wishes import Wishes


def chat_order(body: ChatBody, text: Text, wishes: Wishes, deployment: Deployment) -> Order:
    """Render, tokenize, name; takes milliseconds, so not for the event loop's thread. Raises ApiError."""
    prompt = conversation_tokens(body, text, deployment.longest)
    return order(
        "chatcmpl",
        body,
        [prompt],
        text,
        deployment,
        max_tokens=body.wanted_tokens,
        prompt_param="messages",
        wishes=wishes,
    )


def conversation_tokens(body: ConversationBody, text: Text, longest: int) -> list[int]:
    """The prompt that a conversation makes; raises ApiError."""
    for message in body.messages:
        check_length(message.content or "", text, longest, "messages")
    continued = bool(body.continue_final_message)
    generation_prompt = body.add_generation_prompt if body.add_generation_prompt is not None else not continued
    if continued and generation_prompt:
        raise bad_request(
            "`continue_final_message` cannot go together with `add_generation_prompt`.", "continue_final_message"
        )
    if continued and body.messages[-1].content is None:
        raise bad_request("`continue_final_message` needs a last message with a content.", "continue_final_message")
    messages = [_for_template(message, f"messages[{number}]") for number, message in enumerate(body.messages)]
    try:
        prompt = text.render_chat(
            messages,
            add_generation_prompt=generation_prompt,
            continue_final_message=continued,
            variables={**(body.chat_template_kwargs or {}), **thinking_variables(body, text.template_variables)},
        )
    except TemplateRefused as error:
        raise bad_request(f"{error}.", "messages") from error
    special = bool(body.add_special_tokens)
    return at_once(tokens_of(prompt, text, longest, "messages", add_special_tokens=special))


def _for_template(message: ChatMessage, param: str) -> Message:
    """A message as templates expect it, which is as vLLM 0.32 gives it to them; raises ApiError.

    The arguments of past tool calls are objects, where clients send them as JSON; an empty list of calls is none.
    """
    given = {**message.model_dump(exclude_none=True), "content": message.content or ""}
    if message.role != "assistant" or "tool_calls" not in given:
        return given
    calls = given.pop("tool_calls")
    if not isinstance(calls, list):
        raise bad_request(f"`{param}.tool_calls` must be a list.", f"{param}.tool_calls")
    if calls:
        given["tool_calls"] = [_call(each, f"{param}.tool_calls[{number}]") for number, each in enumerate(calls)]
    return given


def _call(call: object, param: str) -> Mapping[str, Any]:
    function = call.get("function") if isinstance(call, dict) and call.get("type", "function") == "function" else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise bad_request(f"`{param}` must be an object of type function, with a `function`.", param)
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(given: object) -> dict[str, Any]:
    """The object that a call's arguments are.

    What is none becomes an empty object: it was written by a model, and would make every later turn of its
    conversation fail.
    """
    if isinstance(given, str):
        try:
            check_counts(given.encode())  # what a string of the body holds was not counted with the body
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
        except ApiError as error:
            if error.code == TOO_LARGE:
                raise
            return {}
    return given if isinstance(given, dict) else {}


class ChatShape(Shape):
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self, index: int) -> bytes:
        """The role, before any content."""
        prompt = ""
        if self._telling.return_token_ids:
            prompt = f'"prompt_token_ids":{sse.dumps(list(self._order.choices[index].prompt))},'
        delta = '"delta":{"role":"assistant","content":""}'
        return self._chunk(f'{{"index":{index},{delta},"logprobs":null,"finish_reason":null}}', before=prompt)

    def whole(self, choices: Sequence[Told], usage: Usage) -> dict[str, Any]:
        """With the prompt's ids, which all choices share, where vLLM has them."""
        document = super().whole(choices, usage)
        if self._telling.return_token_ids:
            document["prompt_token_ids"] = list(self._order.choices[0].prompt)
        return document

    def _said(self, text: str) -> str:
        return f'"delta":{{"content":{sse.quote(text)}}}' if text else '"delta":{}'

    def _choice(self, told: Told) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": told.text, "refusal": None}}
