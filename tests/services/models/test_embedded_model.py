"""The embedded model, fetched and converted: its tokenizer is the one it was trained with."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from services.models.embedded import EMBEDDED_MODEL, fetch_embedded
from services.models.resolve import ModelFiles, resolve_model
from services.runtime.paths import default_data_dir

pytestmark = pytest.mark.model

TEXTS = [
    "Hello world",
    "The capital of France is Paris.",
    "12345 3.14 x2y 1,000,000",
    "  two spaces \n\n\t tabs\r\n and  more   ",
    "Ünïcødé ñ 日本語 한국어 العربية 🙂👩‍👩‍👧",
    "I'll we've don't CAN'T",
    "def f(x):\n    return x ** 2  # power\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<repo_name>a<file_sep>b<|endoftext|>",
    "",
]


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return resolve_model(EMBEDDED_MODEL, default_data_dir())


@pytest.fixture(scope="module")
def tokenizer(files: ModelFiles) -> Tokenizer:
    return Tokenizer.from_file(str(files.directory / "tokenizer.json"))


def test_everything_a_hugging_face_directory_needs_is_there(files: ModelFiles) -> None:
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= {path.name for path in files.directory.iterdir()}
    assert files.served_name == EMBEDDED_MODEL
    assert json.loads((files.directory / "generation_config.json").read_text())["temperature"] == 0.01
    assert "<|im_start|>" in json.loads((files.directory / "tokenizer_config.json").read_text())["chat_template"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [19556, 905]),
        ("12345", [33, 34, 35, 36, 37]),
        ("<|im_start|>user\nHi<|im_end|>\n", [1, 4093, 198, 26843, 2, 198]),
    ],
)
def test_known_encodings(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text).ids == ids


def test_transformers_reads_the_same_tokens_from_the_gguf_file_itself(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import transformers

    gguf = fetch_embedded(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    assert [tokenizer.encode(text).ids for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
