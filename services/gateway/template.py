"""Render a model's chat template, as Hugging Face transformers does, without trusting it.

Templates come with models, so they run in jinja's immutable sandbox and see only
what is given here. A template that refuses a conversation (``raise_exception``) or
cannot render it raises TemplateRefused with its own words.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]


class TemplateRefused(Exception):
    """The conversation cannot be rendered; the message says why."""


class ChatTemplate:
    """One template. special: bos_token, eos_token and the like, as the template names them.

    variables: the names that it reads and does not set, so that a request may.
    """

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, "services.gateway.template_tags.Generation"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(find_undeclared_variables(environment.parse(source)))
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

        continue_final_message: the text ends with the last message's content, so that the model goes on writing it.
        Raises TemplateRefused.
        """
        if continue_final_message:
            return self._render_continued(messages, variables)
        return self._render(messages, add_generation_prompt=add_generation_prompt, variables=variables)

    def after_answer(self) -> str:
        """What the template writes after the content of an assistant's last message: where its turn ends."""
        asked = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello" + (mark := _mark())}]
        return self._render(asked, add_generation_prompt=False, variables=None).rpartition(mark)[2]

    def _render_continued(self, messages: Sequence[Message], variables: Mapping[str, Any] | None) -> str:
        """Cut at a mark that is put behind the content before rendering: the content itself may occur again after it.

        The same rule as in transformers 5.24 (``render_jinja_template``): the mark ends in a space, and where the
        template takes that space away, it strips contents, so the end of this one is stripped as well.
        """
        content = messages[-1].get("content")
        if not isinstance(content, str):
            raise TemplateRefused("the last message has no content, so it can't be continued")
        mark = _mark()
        marked = [*messages[:-1], {**messages[-1], "content": f"{content}{mark} "}]
        text = self._render(marked, add_generation_prompt=False, variables=variables)
        before, found, after = text.rpartition(mark)
        if not found or not before.rstrip().endswith(content.strip()):
            raise TemplateRefused("the chat template drops or changes the last message, so it can't be continued")
        return before if after.startswith(" ") else before.rstrip()

    def _render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool, variables: Mapping[str, Any] | None
    ) -> str:
        if not self._knows_developer:  # OpenAI's newer name for the same thing
            messages = [{**each, "role": "system"} if each["role"] == "developer" else each for each in messages]
        names = {**self._special, **(variables or {}), "messages": messages, "tools": None, "documents": None}
        names["add_generation_prompt"] = add_generation_prompt
        try:
            return _without_halves(self._template.render(names))
        except TemplateError as error:
            raise TemplateRefused(f"the model's chat template refuses this conversation: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise TemplateRefused(f"the model's chat template cannot render this conversation: {error}") from error


def _without_halves(text: str) -> str:
    """Halves of surrogate pairs are no characters, and no tokenizer takes them: each becomes U+FFFD.

    A body's JSON holds none, but what a string of it holds may, such as the arguments of a tool call.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _mark() -> str:
    """Letters that no message has and no template changes."""
    return f"FINAL{secrets.token_hex(16)}"


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
