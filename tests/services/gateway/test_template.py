"""Chat templates: rendered as Hugging Face does, in a sandbox that lets nothing out."""

from datetime import datetime

import pytest

from services.gateway.template import ChatTemplate, TemplateRefused

HELLO: dict[str, object] = {"role": "user", "content": "hello"}


def render(source: str, messages: list[dict[str, object]] | None = None, **options: object) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(messages or [HELLO], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'content': 'x'}) }}",
        "{% include '/etc/passwd' %}",
        "{% for x in range(10**9) %}{% endfor %}",
    ],
)
def test_nothing_reaches_out_of_the_sandbox(source: str) -> None:
    with pytest.raises(TemplateRefused):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception.__globals__ }}",
        "{{ ''.format.__globals__ }}",
        "{{ '{0.__class__.__init__}'.format(messages) }}",
        "{{ self.__init__ }}",
    ],
)
def test_what_the_sandbox_keeps_back_renders_as_nothing(source: str) -> None:
    assert render(source) == ""


def test_a_template_says_in_its_own_words_what_it_refuses() -> None:
    with pytest.raises(TemplateRefused, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_a_template_that_cannot_render_these_messages_refuses_them() -> None:
    with pytest.raises(TemplateRefused):
        render("{{ messages[0]['content'] + 1 }}")


def test_a_template_that_is_none_is_a_sentence() -> None:
    with pytest.raises(TemplateRefused, match="not valid"):
        ChatTemplate("{% if %}", {})


def test_special_tokens_and_variables_of_the_request_are_there() -> None:
    source = "{{ bos_token }}{{ messages[0].content }}{% if thinking %}!{% endif %}"
    assert render(source, variables={"thinking": True}) == "<s>hello!"


def test_variables_of_the_request_never_hide_the_messages() -> None:
    source = "{{ messages[0].content }}{{ add_generation_prompt }}"
    assert render(source, variables={"messages": [], "add_generation_prompt": 3}) == "helloTrue"


def test_json_is_written_as_it_is_read() -> None:
    assert render("{{ {'ö': '<'} | tojson }}") == '{"ö": "<"}'


def test_blocks_leave_no_white_space_and_loops_can_be_left() -> None:
    source = "{% for x in [1, 2, 3] %}\n    {% if x == 2 %}{% break %}{% endif %}\n{{ x }}\n{% endfor %}"
    assert render(source).strip() == "1"


def test_the_generation_tag_renders_its_body() -> None:
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}.") == "hello."


def test_the_date_is_today_s() -> None:
    before = datetime.now().strftime("%Y-%m-%d")
    rendered = render("{{ strftime_now('%Y-%m-%d') }}")
    assert rendered in (before, datetime.now().strftime("%Y-%m-%d"))


def test_a_developer_is_the_system_to_templates_that_do_not_know_better() -> None:
    messages: list[dict[str, object]] = [{"role": "developer", "content": "be brief"}]
    assert render("{{ messages[0].role }}", messages) == "system"
    assert render("{% if messages[0].role == 'developer' %}yes{% endif %}", messages) == "yes"


def test_a_final_message_is_continued_where_it_ends() -> None:
    source = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }} [end]{% endfor %}"
    messages: list[dict[str, object]] = [HELLO, {"role": "assistant", "content": "It is "}]
    rendered = render(source, messages, add_generation_prompt=False, continue_final_message=True)
    assert rendered == "[user] hello [end][assistant] It is "
