"""A tokenizer is all of its files: every variant of a directory gives what transformers gives.

``tokenizer_directories.json`` has the right values: what ``AutoTokenizer`` of transformers 5.24.0 with tokenizers
0.23.3 said of each variant of ``directories.py``. ``python -m tests.field.test_tokenizer_directories`` writes it anew.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from services.gateway.template import TemplateRefused
from services.gateway.text import Text, load_text
from services.gateway.tokenizer.directory import load_tokenizer
from services.gateway.tokenizer.files import TextError
from tests.field.directories import MESSAGES, PROBES, REFUSED, VARIANTS, directory, unspecial, words, write

RECORDED = Path(__file__).with_name("tokenizer_directories.json")
RIGHT: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
ROLES = ("bos", "eos", "pad")


def ours(place: Path) -> dict[str, Any]:
    """ids: of each probe, without special tokens and with; texts: of the latter, with special tokens and without."""
    loaded, text = load_tokenizer(place), load_text(place)
    ids = [[text.encode(probe, add_special_tokens=special) for special in (False, True)] for probe in PROBES]
    texts = [[text.decode(whole, skip_special_tokens=skip) for skip in (False, True)] for _, whole in ids]
    names = {role: loaded.special.get(f"{role}_token") for role in ROLES}
    roles = {role: None if name is None else loaded.tokenizer.token_to_id(name) for role, name in names.items()}
    return {"ids": ids, "texts": texts, "roles": roles, "chat": _chat(text)}


def theirs(place: Path) -> dict[str, Any]:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    plain = {"padding": False, "truncation": False}
    ids = [
        [tokenizer(probe, add_special_tokens=special, **plain)["input_ids"] for special in (False, True)]
        for probe in PROBES
    ]
    texts = [[tokenizer.decode(whole, skip_special_tokens=skip) for skip in (False, True)] for _, whole in ids]
    roles = {role: getattr(tokenizer, f"{role}_token_id") for role in ROLES}
    try:
        chat = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    except ValueError:  # no template
        chat = None
    return {"ids": ids, "texts": texts, "roles": roles, "chat": chat}


def _chat(text: Text) -> str | None:
    try:
        return text.render_chat(MESSAGES)
    except TemplateRefused:
        return None


def test_the_record_has_every_variant() -> None:
    assert RIGHT.keys() == VARIANTS.keys()
    assert len(VARIANTS) >= 24


@pytest.mark.parametrize("name", VARIANTS)
def test_a_directory_gives_what_transformers_gives(name: str, tmp_path: Path) -> None:
    assert ours(write(VARIANTS[name](), tmp_path)) == RIGHT[name]


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_t_be_had_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, why = REFUSED[name]
    with pytest.raises(TextError, match=why):
        load_text(write(make(), tmp_path))


@pytest.mark.parametrize("key", ["added_tokens_decoder", "extra_special_tokens", "auto_map", "fast_tokenizer_files"])
def test_null_is_as_if_not_given(key: str, tmp_path: Path) -> None:
    assert ours(write(directory(**{key: None}), tmp_path)) == RIGHT["plain"]


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json", "generation_config.json"])
def test_an_empty_file_says_nothing(name: str, tmp_path: Path) -> None:
    assert ours(write({**directory(), name: {}}, tmp_path)) == RIGHT["plain"]


def test_null_is_no_answer_to_any_question_of_a_config(tmp_path: Path) -> None:
    nulls = {"text_config": None, "vocab_size": None, "max_position_embeddings": None, "eos_token_id": None}
    generation = {"eos_token_id": None, "bos_token_id": None, "temperature": None, "top_k": None}
    text = load_text(write({**directory(config=nulls), "generation_config.json": generation}, tmp_path))
    assert (set(text.end_ids), text.vocab_size, text.context) == ({260}, 261, None)


def test_roles_and_extra_tokens_may_be_objects_without_a_type(tmp_path: Path) -> None:
    """Transformers raises TypeError for these, which say clearly what they mean."""
    objects = {"bos_token": {"content": "<|endoftext|>"}, "extra_special_tokens": [{"content": "<x>", "special": True}]}
    text = load_text(write(unspecial(**objects), tmp_path))
    assert text.encode("<|endoftext|><x>") == [258, 261]


def test_a_token_beyond_the_model_s_vocabulary_ends_nothing(tmp_path: Path) -> None:
    text = load_text(write(words(eos_token="<end>", config={"vocab_size": 269}), tmp_path))
    assert text.encode("<end>", add_special_tokens=False) == [269]
    assert text.end_ids == frozenset()


@pytest.mark.slow
def test_transformers_gives_what_was_recorded(tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="5.23")
    for number, (name, make) in enumerate(VARIANTS.items()):
        assert theirs(write(make(), tmp_path / str(number))) == RIGHT[name], name


def record() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: theirs(write(make(), Path(scratch, str(n)))) for n, (name, make) in enumerate(VARIANTS.items())}
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name], ensure_ascii=False)}" for name in found)
    RECORDED.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    record()
