"""Render a model's chat template, as Hugging Face transformers does, without trusting it.

Templates come with models, so they run in jinja's immutable sandbox and see only
what is given here. A template that refuses a conversation (``raise_exception``) or
cannot render it raises TemplateRefused with its own words.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]


class TemplateRefused(Exception):
    """The conversation cannot be rendered; the message says why."""


class ChatTemplate:
    """One template. special: bos_token, eos_token and the like, as the template names them."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, "services.gateway.template_tags.Generation"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise TemplateRefused(f"the model's chat template is not valid: {error}") from error
        self._special = dict(special)
        self._knows_developer = "developer" in source

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text. variables: chat_template_kwargs of the request; they never hide the messages.

        Raises TemplateRefused.
        """
        if not self._knows_developer:  # OpenAI's newer name for the same thing
            messages = [{**each, "role": "system"} if each["role"] == "developer" else each for each in messages]
        names = {**self._special, **(variables or {}), "messages": messages, "tools": None, "documents": None}
        names["add_generation_prompt"] = add_generation_prompt
        try:
            text = self._template.render(names)
        except TemplateError as error:
            raise TemplateRefused(f"the model's chat template refuses this conversation: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise TemplateRefused(f"the model's chat template cannot render this conversation: {error}") from error
        return _cut_after(text, str(messages[-1]["content"])) if continue_final_message else text


def _cut_after(text: str, content: str) -> str:
    """The text up to the end of the last message's content, so that the model goes on writing it."""
    wanted = content.strip()
    at = text.rfind(wanted)
    if at < 0:
        raise TemplateRefused("the chat template changes the last message, so it can't be continued")
    end = at + len(wanted)
    trailing = content[len(content.rstrip()) :]
    return text[:end] + (trailing if text.startswith(trailing, end) else "")


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any,  # Any: whatever a template has in its hands
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
