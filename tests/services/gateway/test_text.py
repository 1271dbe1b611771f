"""A model's text side, read from its directory."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.gateway.sampling_defaults import SamplingDefaults
from services.gateway.text import load_text, toy_text
from services.gateway.tokenizer.files import TextError
from services.gateway.toy_text import VOCAB_SIZE, toy_tokenizer
from services.models.embedded import EMBEDDED_MODEL
from services.models.resolve import resolve_model
from services.runtime.paths import default_data_dir

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"


def model(directory: Path, **files: Mapping[str, object] | str) -> Path:
    """A directory with the toy's tokenizer and these files (``config`` is config.json)."""
    toy_tokenizer().save(str(directory / "tokenizer.json"))
    for name, content in files.items():
        if isinstance(content, str):
            (directory / name.replace("_jinja", ".jinja")).write_text(content)
        else:
            (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def render(directory: Path) -> str:
    return load_text(directory).render_chat([{"role": "user", "content": "hi"}])


def test_the_template_is_the_tokenizer_config_s(tmp_path: Path) -> None:
    config = {"chat_template": TEMPLATE, "bos_token": {"content": "<s>", "special": True}}
    assert render(model(tmp_path, tokenizer_config=config)) == "<s>hi"


def test_a_template_in_a_file_of_its_own_wins(tmp_path: Path) -> None:
    config = {"chat_template": "old", "bos_token": "<s>"}
    assert render(model(tmp_path, tokenizer_config=config, chat_template_jinja=TEMPLATE)) == "<s>hi"


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    assert render(model(tmp_path, tokenizer_config={"chat_template": templates})) == "yes"


def test_a_model_without_a_template_says_so_when_asked_to_chat(tmp_path: Path) -> None:
    from services.gateway.template import TemplateRefused

    with pytest.raises(TemplateRefused, match="no chat template"):
        render(model(tmp_path))


@pytest.mark.parametrize(
    ("tokenizer_config", "generation_config", "config", "ids"),
    [
        ({"eos_token": "<|end|>"}, {}, {}, {256}),
        ({"eos_token": "<|end|>"}, {"eos_token_id": [257, 258]}, {"eos_token_id": 1}, {256, 257, 258}),
        ({}, {"eos_token_id": 258}, {"eos_token_id": 1}, {258}),
        ({}, {}, {"eos_token_id": 258}, {258}),
        ({}, {}, {}, set()),
        ({"eos_token": "<|end|>"}, {"eos_token_id": None}, {}, {256}),
    ],
)
def test_what_ends_an_answer(
    tmp_path: Path,
    tokenizer_config: dict[str, object],
    generation_config: dict[str, object],
    config: dict[str, object],
    ids: set[int],
) -> None:
    files = {"tokenizer_config": tokenizer_config, "generation_config": generation_config, "config": config}
    assert load_text(model(tmp_path, **files)).end_ids == ids


@pytest.mark.parametrize(
    ("generation_config", "defaults"),
    [
        ({}, SamplingDefaults(1.0, 0, 1.0)),
        ({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}, SamplingDefaults(0.6, 20, 0.95)),
        ({"do_sample": True, "temperature": 0.7}, SamplingDefaults(0.7, 0, 1.0)),
        ({"temperature": 0.6, "top_k": 20}, SamplingDefaults(0.6, 20)),
    ],
)
def test_what_a_request_gets_that_does_not_say(
    tmp_path: Path, generation_config: dict[str, object], defaults: SamplingDefaults
) -> None:
    assert load_text(model(tmp_path, generation_config=generation_config)).defaults == defaults


def test_sizes_come_from_the_config(tmp_path: Path) -> None:
    text = load_text(model(tmp_path, config={"vocab_size": 600, "max_position_embeddings": 4096}))
    assert (text.vocab_size, text.context) == (600, 4096)
    (tmp_path / "inner").mkdir()
    inner = {"text_config": {"vocab_size": 700, "max_position_embeddings": 8}}
    assert load_text(model(tmp_path / "inner", config=inner)).vocab_size == 700


def test_a_tokenizer_that_would_cut_or_pad_does_neither(tmp_path: Path) -> None:
    tokenizer = toy_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_text(tmp_path).encode("0123456789") == list(b"0123456789")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tokenizer.json", "{}", "is not a tokenizer"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "[]", "is not a JSON object"),
        ("chat_template.jinja", "{% if %}", "chat template is not valid"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, name: str, content: str, why: str) -> None:
    model(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(TextError, match=why):
        load_text(tmp_path)


def test_a_directory_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"no tokenizer\.json"):
        load_text(tmp_path)


def test_every_token_of_the_toy_has_a_text_of_its_own() -> None:
    text = toy_text()
    texts = [text.decode([token]) for token in range(128)] + [text.decode([token]) for token in range(256, VOCAB_SIZE)]
    assert len(set(texts)) == len(texts)


def test_a_text_far_too_long_is_known_before_it_is_tokenized() -> None:
    text = toy_text()
    assert not text.certainly_longer_than(100, "x" * 100)
    assert text.certainly_longer_than(100, "x" * 2000)
    assert len(text.encode("<|im_start|>" * 100)) == 100
    assert not text.certainly_longer_than(100, "<|im_start|>" * 100)


@pytest.mark.model
def test_the_embedded_model_s_text_is_what_transformers_makes_of_it() -> None:
    import transformers

    directory = resolve_model(EMBEDDED_MODEL, default_data_dir()).directory
    ours, theirs = load_text(directory), transformers.AutoTokenizer.from_pretrained(directory)
    messages = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris. \u00c9t\u00e9 \U0001f600 \u6771\u4eac"},
        {"role": "user", "content": "And <|im_end|> of 12345 Spains?\n\n\ttab"},
    ]
    prompt = ours.render_chat(messages)
    assert prompt == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tokens = ours.encode(prompt, add_special_tokens=False)
    assert tokens == theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ours.decode(tokens, skip_special_tokens=True) == theirs.decode(tokens, skip_special_tokens=True)
    assert ours.eos_id == theirs.eos_token_id
    assert ours.end_ids >= {ours.eos_id}  # a GGUF file's ends are known by their texts as well
    assert ours.encode("Once upon a time") == theirs("Once upon a time")["input_ids"]
