"""What ends an answer.

From a directory: as vLLM 0.32 takes it (the tokenizer's end token and ``generation_config.json``), and what the chat
template writes after an answer where that is none of these. From a GGUF file with a chat template: as llama.cpp's
list has it (``src/llama-vocab.cpp`` in llama-cpp-python 0.3.36).
"""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from services.gateway.text import load_text
from services.models.cache import MARKER
from services.models.gguf_vocabulary import TURN_ENDS
from tests.field.directories import bytes_tokenizer, directory, write

ANSWER = "{% for m in messages %}<{{ m.role }}>{{ m.content }}AFTER{% endfor %}"


def ends(place: Path, special: tuple[str, ...], *, template: str | None, gguf: bool = False, **files: Any) -> set[str]:
    """The texts of the tokens that end an answer of a model with these special tokens, the first of them its eos."""
    made = bytes_tokenizer(special, in_vocabulary=bool(files.pop("unmarked", False)))
    generation = {"eos_token_id": _ids(made, files.pop("generation", None))}
    eos = files.pop("eos_token", special[0])
    written = directory(made, chat_template=template, bos_token=None, eos_token=eos, config=files)
    more: dict[str, Any] = {"generation_config.json": generation} | ({MARKER: {}} if gguf else {})
    text = load_text(write({**written, **more}, place))
    return {str(made.id_to_token(each)) for each in text.end_ids}


def _ids(made: Tokenizer, texts: object) -> object:
    return [made.token_to_id(text) for text in texts] if isinstance(texts, list) else texts


@pytest.mark.parametrize(
    ("special", "after", "generation", "right"),
    [
        (("<|im_end|>", "<|endoftext|>"), "<|im_end|>\n", None, {"<|im_end|>"}),
        (("<|endoftext|>", "<|im_end|>"), "<|im_end|>\n", None, {"<|endoftext|>", "<|im_end|>"}),
        (("<|endoftext|>", "<|im_end|>"), "\n<|im_end|>", None, {"<|endoftext|>", "<|im_end|>"}),
        (("<|endoftext|>", "<|im_end|>"), "<|im_end|>", ["<|im_end|>"], {"<|endoftext|>", "<|im_end|>"}),
        (("</s>", "<|eot_id|>", "<|eom_id|>"), "<|eot_id|>", ["<|eot_id|>"], {"</s>", "<|eot_id|>"}),
        (("<eos>", "<end_of_turn>"), "<end_of_turn>\n", None, {"<eos>", "<end_of_turn>"}),
        (("<|endoftext|>", "<|end|>"), "<|end|>\n", None, {"<|endoftext|>", "<|end|>"}),
        (("<|return|>", "<|call|>", "<|end|>"), "<|return|>", None, {"<|return|>"}),
        (("</s>", "[|endofturn|]"), "[|endofturn|]\n", None, {"</s>", "[|endofturn|]"}),
        (("</s>", "<|im_end|>"), "</s>", None, {"</s>"}),
        (("</s>", "<|im_end|>"), "\n", None, {"</s>"}),
        (("</s>", "<|im_end|>"), " and <|im_end|>", None, {"</s>"}),
        (("</s>", "<a>", "<a>b"), "<a>b", None, {"</s>", "<a>b"}),
    ],
)
def test_a_directory_s_answers_end_where_vllm_ends_them_or_else_where_the_turn_ends(
    special: tuple[str, ...], after: str, generation: list[str] | None, right: set[str], tmp_path: Path
) -> None:
    assert ends(tmp_path, special, template=ANSWER.replace("AFTER", after), generation=generation) == right


@pytest.mark.parametrize("gguf", [False, True])
def test_what_a_model_without_a_template_has_beside_its_end_stays_unused(gguf: bool, tmp_path: Path) -> None:
    assert ends(tmp_path, ("<|endoftext|>", "<|im_end|>"), template=None, gguf=gguf) == {"<|endoftext|>"}


@pytest.mark.parametrize(
    ("special", "right"),
    [
        (("<|endoftext|>", "<|im_start|>", "<|im_end|>"), {"<|endoftext|>", "<|im_end|>"}),
        (("<|im_end|>", "<|im_start|>", "<|endoftext|>"), {"<|endoftext|>", "<|im_end|>"}),
        (("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"), {"<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"}),
        (("<|endoftext|>", "<|end|>"), {"<|endoftext|>", "<|end|>"}),
        (("<|return|>", "<|call|>", "<|end|>"), {"<|return|>", "<|call|>"}),
        (("<|return|>", "<|end|>"), {"<|return|>", "<|end|>"}),
        (("<|calls|>", "<|flush|>", "<|end|>"), {"<|calls|>", "<|flush|>"}),
        (("<eos>", "<|tool_response>", "</s>"), {"<eos>", "<|tool_response>"}),
        (("<x>", "</s>", "[EOS]", "[EOT]"), {"<x>", "</s>", "[EOS]", "[EOT]"}),
        (("<x>", "<y>"), {"<x>"}),
    ],
)
@pytest.mark.parametrize("unmarked", [False, True])
def test_a_gguf_file_s_answers_end_where_llama_cpp_ends_them(
    special: tuple[str, ...], right: set[str], unmarked: bool, tmp_path: Path
) -> None:
    assert ends(tmp_path, special, template=ANSWER, gguf=True, unmarked=unmarked) == right


@pytest.mark.parametrize("text", sorted(TURN_ENDS))
def test_every_text_of_the_list_ends(text: str, tmp_path: Path) -> None:
    assert ends(tmp_path, ("<x>", text), template=ANSWER, gguf=True) == {"<x>", text}


def test_an_end_by_its_text_is_special_whatever_type_the_file_gives_it(tmp_path: Path) -> None:
    made = bytes_tokenizer(("<|endoftext|>", "<|im_end|>"), in_vocabulary=True)
    files = directory(made, bos_token=None, eos_token="<|endoftext|>")
    text = load_text(write({**files, MARKER: {}}, tmp_path))
    assert text.encode("a<|im_end|>") == [text.encode("a")[0], made.token_to_id("<|im_end|>")]
    assert text.decode(text.encode("a<|im_end|>"), skip_special_tokens=True) == "a"


@pytest.mark.parametrize(
    ("generation", "config", "right"),
    [
        ({}, {}, {260}),
        ({"eos_token_id": 258}, {"eos_token_id": 259}, {258, 260}),
        ({"eos_token_id": [258, 259]}, {}, {258, 259, 260}),
        ({"eos_token_id": None}, {"eos_token_id": 259}, {259, 260}),
        ({"eos_token_id": []}, {"eos_token_id": 259}, {260}),
        ({}, {"eos_token_id": [258, None]}, {258, 260}),
        ({"eos_token_id": 999}, {}, {260}),
        ({"eos_token_id": True}, {}, {260}),
    ],
)
def test_the_ids_that_the_files_state(
    generation: dict[str, Any], config: dict[str, Any], right: set[int], tmp_path: Path
) -> None:
    files = {**directory(config=config), "generation_config.json": generation}
    assert load_text(write(files, tmp_path)).end_ids == right


def test_a_template_that_does_not_render_a_plain_conversation_adds_no_end(tmp_path: Path) -> None:
    assert ends(tmp_path, ("</s>", "<|im_end|>"), template="{{ raise_exception('no') }}<|im_end|>") == {"</s>"}
