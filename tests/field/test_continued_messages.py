"""``continue_final_message``: the prompt ends where the last message's content ends.

The right values are those of transformers 5.24.0, ``apply_chat_template(.., continue_final_message=True)``; a slow
test asks it again.
"""

import json
from typing import Any

import pytest

from services.gateway.template import ChatTemplate, TemplateRefused

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TRIMMED = "{% for m in messages %}<|{{ m.role }}|>\n\n{{ m.content | trim }}<|end|>\n{% endfor %}"
SPACED = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }} [end]{% endfor %}"
TWICE = "{% for m in messages %}<{{ m.content }}>{% endfor %}{{ messages[0].content }} end"
HEAD = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
HI = "<|user|>\n\nhi<|end|>\n<|assistant|>\n\n"

KEPT: list[tuple[str, str, str]] = [
    (CHATML, "It is", HEAD + "It is"),
    (CHATML, "It is ", HEAD + "It is "),
    (CHATML, " It is\n", HEAD + " It is\n"),
    (CHATML, "<", HEAD + "<"),
    (CHATML, "|", HEAD + "|"),
    (CHATML, "end", HEAD + "end"),
    (CHATML, "<|im_end|>", HEAD + "<|im_end|>"),
    (CHATML, "\n", HEAD + "\n"),
    (CHATML, "", HEAD),
    (CHATML, "  ", HEAD + "  "),
    (CHATML, "hi", HEAD + "hi"),
    (CHATML, "assistant", HEAD + "assistant"),
    (CHATML, "{{ m.content }}", HEAD + "{{ m.content }}"),
    (TRIMMED, "It is", HI + "It is"),
    (TRIMMED, "  It is  ", HI + "It is"),
    (TRIMMED, "end", HI + "end"),
    (TRIMMED, "<|end|>", HI + "<|end|>"),
    (TRIMMED, "", HI.rstrip()),
    (TRIMMED, "\n", HI.rstrip()),
    (SPACED, "It is ", "[user] hi [end][assistant] It is "),
    (SPACED, "end]", "[user] hi [end][assistant] end]"),
    (TWICE, "hi", "<hi><hi"),
    (TWICE, "e", "<hi><e"),
]
CHANGED: list[tuple[str, str]] = [
    ("{% for m in messages %}{{ m.role }}{% endfor %}", "It is"),
    ("{{ messages[0].content }}", "It is"),
    ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "It is"),
    ("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}", "<think>so</think>It is"),
    ("{% for m in messages %}{{ m.content | replace('It', 'This') }}{% endfor %}", "It is"),
    ("{% for m in messages %}{{ m.content | tojson }}{% endfor %}", 'It "is"'),
    ("{% for m in messages %}{{ m.content[:4] }}{% endfor %}", "It is"),
]


def conversation(content: str | None) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]


def render(source: str, messages: list[dict[str, Any]]) -> str:
    return ChatTemplate(source, {}).render(messages, add_generation_prompt=False, continue_final_message=True)


@pytest.mark.parametrize(("source", "content", "right"), KEPT)
def test_the_prompt_ends_with_the_content(source: str, content: str, right: str) -> None:
    assert render(source, conversation(content)) == right


@pytest.mark.parametrize(("source", "content"), CHANGED)
def test_a_template_that_changes_the_content_is_told(source: str, content: str) -> None:
    with pytest.raises(TemplateRefused, match="drops or changes the last message"):
        render(source, conversation(content))


def test_content_that_was_said_before_is_not_taken_for_the_last() -> None:
    """Transformers only looks whether the content is anywhere, and would give the changed one."""
    source = "{% for m in messages %}{{ m.content if loop.first else m.content[2:] }}.{% endfor %}"
    with pytest.raises(TemplateRefused, match="drops or changes the last message"):
        render(source, conversation("hi"))


def test_a_last_message_without_content_can_t_be_continued() -> None:
    with pytest.raises(TemplateRefused, match="no content"):
        render(CHATML, conversation(None))


@pytest.mark.slow
def test_transformers_gives_the_same() -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    for source, content, right in KEPT:
        rendered, _ = utils.render_jinja_template(
            [conversation(content)], chat_template=source, continue_final_message=True
        )
        assert rendered == [right], json.dumps([source, content])
    for source, content in CHANGED:
        with pytest.raises(ValueError, match="continue_final_message"):
            utils.render_jinja_template([conversation(content)], chat_template=source, continue_final_message=True)
