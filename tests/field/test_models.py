"""The tiny models say what they are made to say, in every form in which they are written."""

from pathlib import Path

import pytest

from services.models.resolve import resolve_model
from tests.engine.llama.driving import greedy, in_a_row, load
from tests.field.models import VOCABULARY, Tiny, write_directory, write_gguf

PROMPT = list(range(40))


@pytest.mark.parametrize("model", [Tiny(), Tiny("z", layers=2), Tiny("the", tied=True)], ids=str)
def test_a_steady_model_gives_one_token_whatever_was_asked(tmp_path: Path, model: Tiny) -> None:
    one, sharded = write_directory(tmp_path / "one", model), write_directory(tmp_path / "sharded", model, shards=3)
    [gguf] = write_gguf(tmp_path / "tiny.gguf", model)
    converted = resolve_model(str(gguf), tmp_path / "data").directory
    for directory in (one, sharded, converted):
        assert greedy(load(directory), PROMPT, in_a_row(4), 4) == [VOCABULARY[model.says]] * 4


def test_an_attentive_model_answers_by_prompt_and_seed_the_same_from_gguf(tmp_path: Path) -> None:
    one = load(write_directory(tmp_path / "one", Tiny(attentive=True, seed=1)))
    two = load(write_directory(tmp_path / "two", Tiny(attentive=True, seed=2)))
    answer = greedy(one, PROMPT, in_a_row(4), 8)
    assert (
        len(
            {
                tuple(answer),
                tuple(greedy(two, PROMPT, in_a_row(4), 8)),
                tuple(greedy(one, [7, *PROMPT[1:]], in_a_row(4), 8)),
            }
        )
        == 3
    )
    [gguf] = write_gguf(tmp_path / "tiny.gguf", Tiny(attentive=True, seed=1))
    assert greedy(load(resolve_model(str(gguf), tmp_path / "data").directory), PROMPT, in_a_row(4), 8) == answer
