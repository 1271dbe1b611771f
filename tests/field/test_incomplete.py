"""A model of which something is missing is refused in a sentence that names it; a whole one is read in every form."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from services.models.main import main
from services.models.resolve import resolve_model
from tests.engine.llama.driving import greedy, in_a_row, load
from tests.field.models import VOCABULARY, Tensors, Tiny, write_directory, write_gguf, write_weights

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
MODEL = Tiny("the", layers=2)
FIRST, SECOND, THIRD = (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))


def said(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What ``moonpool pull`` ends with, and its last line."""
    status = main([str(model), "--data-dir", str(data)])
    out, err = capsys.readouterr()
    assert bool(out) == (status == 0)
    assert "Traceback" not in err
    return status, err.strip().splitlines()[-1] if err.strip() else ""


def change(directory: Path, edit: Callable[[Tensors], object], name: str = "model.safetensors") -> None:
    tensors = load_file(directory / name)
    edit(tensors)
    save_file(tensors, directory / name, metadata={"format": "pt"})


def change_index(directory: Path, **places: str | None) -> None:
    path = directory / "model.safetensors.index.json"
    document = json.loads(path.read_text())
    document["weight_map"] = {key: value for key, value in (document["weight_map"] | places).items() if value}
    path.write_text(json.dumps(document))


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(64))


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("../blobs/none")


def cut(path: Path, count: int = 100) -> None:
    os.truncate(path, path.stat().st_size - count)


SINGLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda d: cut(d / "model.safetensors"), "its header says"),
    "cut within the header": (lambda d: os.truncate(d / "model.safetensors", 300), "cut off within its header"),
    "empty": (lambda d: os.truncate(d / "model.safetensors", 0), "can't be read as safetensors"),
    "longer than its header says": (lambda d: grow(d / "model.safetensors"), "its header says"),
    "a Git LFS pointer": (lambda d: (d / "model.safetensors").write_text(POINTER), "it is a Git LFS pointer"),
    "config.json is a pointer": (
        lambda d: (d / "config.json").write_text(POINTER),
        "config.json is no JSON: it is a Git LFS pointer",
    ),
    "an interrupted download": (
        lambda d: (d / "model.safetensors").rename(d / "model.safetensors.incomplete"),
        "but model.safetensors.incomplete: its download was interrupted",
    ),
    "pickles only": (
        lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
        "pickles among them, are never",
    ),
    "under another name": (
        lambda d: (d / "model.safetensors").rename(d / "consolidated.safetensors"),
        "but consolidated.safetensors",
    ),
    "a layer too few": (
        lambda d: write_weights(d, Tiny("the", layers=1).tensors()),
        "has no weight model.layers.1.input_layernorm.weight",
    ),
    "a layer too many": (
        lambda d: write_weights(d, Tiny("the", layers=3).tensors()),
        "has the weight model.layers.2.input_layernorm.weight and 8 more, which its config.json has no place for",
    ),
    "no head though it is not tied": (
        lambda d: change(d, lambda t: t.pop("lm_head.weight")),
        "has no weight lm_head.weight",
    ),
    "a bias that nothing adds": (
        lambda d: change(d, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": t["model.norm.weight"]})),
        "has the weight model.layers.0.self_attn.q_proj.bias",
    ),
    "a vocabulary of another size": (
        lambda d: change(d, lambda t: t.update({"lm_head.weight": t["lm_head.weight"][:-1]})),
        "lm_head.weight is [261, 64] instead of [262, 64]",
    ),
}


@pytest.mark.parametrize("damage", list(SINGLE))
def test_a_directory_that_is_not_whole_is_refused(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_directory(tmp_path / "model", MODEL)
    SINGLE[damage][0](directory)
    status, sentence = said(directory, tmp_path / "data", capsys)
    assert status == 1
    assert SINGLE[damage][1] in sentence


SHARDED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard is missing": (lambda d: (d / SECOND).unlink(), f"{SECOND} can't be read: the index lists this shard"),
    "a link to nowhere": (
        lambda d: link_to_nowhere(d / SECOND),
        f"{SECOND} can't be read",
    ),
    "a shard is cut off": (lambda d: cut(d / THIRD), f"{THIRD} can't be read as safetensors"),
    "a shard is a pointer": (lambda d: (d / THIRD).write_text(POINTER), "it is a Git LFS pointer"),
    "a shard lacks a tensor": (
        lambda d: change(d, lambda t: t.pop("lm_head.weight"), THIRD),
        f"{THIRD} has no weight lm_head.weight, which the index says is there",
    ),
    "the index names what no shard has": (
        lambda d: change_index(d, **{"model.layers.2.input_layernorm.weight": THIRD}),
        "has no weight model.layers.2.input_layernorm.weight, which the index says",
    ),
    "the index leaves a shard out": (
        lambda d: change_index(d, **dict.fromkeys(load_file(d / THIRD))),
        "has no weight model.norm.weight",
    ),
    "a tensor stands in two shards": (
        lambda d: change(d, lambda t: t.update(MODEL.tensors() | t), FIRST),
        f"stands in both {FIRST} and {SECOND}",
    ),
    "the same shard under two names": (
        lambda d: shutil.copy(d / FIRST, d / SECOND),
        f"stands in both {FIRST} and {SECOND}",
    ),
    "the index is missing": (
        lambda d: (d / "model.safetensors.index.json").unlink(),
        f"no model.safetensors.index.json, but {FIRST}",
    ),
    "the index is a pointer": (
        lambda d: (d / "model.safetensors.index.json").write_text(POINTER),
        "is no index of weights: it is a Git LFS pointer",
    ),
    "the index is empty": (
        lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {}}'),
        "is no index of weights",
    ),
}


@pytest.mark.parametrize("damage", list(SHARDED))
def test_shards_that_are_not_all_there_are_refused(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_directory(tmp_path / "model", MODEL, shards=3)
    SHARDED[damage][0](directory)
    status, sentence = said(directory, tmp_path / "data", capsys)
    assert status == 1
    assert SHARDED[damage][1] in sentence


PART = "m-0000{}-of-00003.gguf"
GGUF: dict[str, tuple[Callable[[Path], object], str]] = {
    "part 1 alone": (lambda d: list(map(os.remove, d.glob("m-0000[23]-*"))), f"{PART.format(2)}, {PART.format(3)}"),
    "part 2 is missing": (lambda d: (d / PART.format(2)).unlink(), f"missing beside it: {PART.format(2)}"),
    "the last part is missing": (lambda d: (d / PART.format(3)).unlink(), f"missing beside it: {PART.format(3)}"),
    "a part is there twice": (
        lambda d: shutil.copy(d / PART.format(3), d / PART.format(2)),
        f"{PART.format(3)} has the tensor",
    ),
    "two parts changed places": (
        lambda d: [(d / PART.format(a)).rename(d / PART.format(b)) for a, b in ((2, 9), (3, 2), (9, 3))],
        f"{PART.format(2)} is part 3 of 3 by what it holds, not part 2 of 3",
    ),
    "a part of another split": (
        lambda d: (
            write_gguf(d / "other" / "m.gguf", MODEL, tensors_per_part=19),
            shutil.copy(d / "other" / "m-00002-of-00002.gguf", d / PART.format(3)),
        ),
        "is part 2 of 2 by what it holds, not part 3 of 3",
    ),
    "a part is cut off": (lambda d: cut(d / PART.format(2), 5000), f"{PART.format(2)} can't be read as a GGUF file"),
    "a part is a pointer": (lambda d: (d / PART.format(2)).write_text(POINTER), "it is a Git LFS pointer"),
    "a part is empty": (lambda d: os.truncate(d / PART.format(3), 0), f"{PART.format(3)} can't be read as a GGUF file"),
}


@pytest.mark.parametrize("damage", list(GGUF))
def test_a_split_gguf_that_is_not_all_there_is_refused_and_leaves_nothing(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gguf(tmp_path / "m.gguf", MODEL, tensors_per_part=8)
    GGUF[damage][0](tmp_path)
    status, sentence = said(tmp_path / PART.format(1), tmp_path / "data", capsys)
    assert status == 1
    assert GGUF[damage][1] in sentence
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_part_under_another_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = write_gguf(tmp_path / "m.gguf", MODEL, tensors_per_part=8)
    status, sentence = said(first.rename(tmp_path / "mine.gguf"), tmp_path / "data", capsys)
    assert status == 1
    assert "mine.gguf is part 1 of 3, and its name does not say where the others are" in sentence


@pytest.mark.parametrize("count", [1000, 100_000])
def test_a_gguf_file_that_was_cut_off_is_refused(
    tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = write_gguf(tmp_path / "m.gguf", MODEL)
    cut(path, count)
    status, sentence = said(path, tmp_path / "data", capsys)
    assert status == 1
    assert "m.gguf can't be read as a GGUF file, it may be cut off" in sentence


@pytest.mark.parametrize("named", [1, 3])
def test_all_parts_of_a_split_gguf_are_read_whichever_is_named(tmp_path: Path, named: int) -> None:
    parts = write_gguf(tmp_path / "m.gguf", MODEL, tensors_per_part=8)
    files = resolve_model(str(parts[named - 1]), tmp_path / "data")
    assert files.served_name == "m"
    assert greedy(load(files.directory), [1, 2, 3], in_a_row(2), 3) == [VOCABULARY["the"]] * 3
    assert files == resolve_model(str(parts[0]), tmp_path / "data")


def test_parts_that_are_links_to_blobs_are_read(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    for number, part in enumerate(write_gguf(tmp_path / "blobs" / "m.gguf", MODEL, tensors_per_part=8)):
        (tmp_path / "snapshot" / part.name).symlink_to(part.rename(part.with_name(f"blob{number}")))
    files = resolve_model(str(tmp_path / "snapshot" / PART.format(1)), tmp_path / "data")
    assert files.served_name == "m"
    assert greedy(load(files.directory), [1, 2, 3], in_a_row(2), 3) == [VOCABULARY["the"]] * 3


def test_a_whole_gguf_file_under_the_name_of_a_part_is_read(tmp_path: Path) -> None:
    [path] = write_gguf(tmp_path / "m.gguf", MODEL)
    files = resolve_model(str(path.rename(tmp_path / PART.format(1))), tmp_path / "data")
    assert greedy(load(files.directory), [1, 2, 3], in_a_row(2), 3) == [VOCABULARY["the"]] * 3


def test_a_head_that_is_missing_from_a_whole_gguf_file_is_the_embedding(tmp_path: Path) -> None:
    """As llama.cpp loads it (llama-cpp-python 0.3.36): token_embd.weight serves as output.weight, too."""
    [path] = write_gguf(tmp_path / "m.gguf", Tiny("z", tied=True))
    files = resolve_model(str(path), tmp_path / "data")
    assert greedy(load(files.directory), [1, 2, 3], in_a_row(2), 3) == [VOCABULARY["z"]] * 3


WHOLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "beside pickles": (lambda d: (d / "pytorch_model.bin").write_bytes(b"\x80"), "a"),
    "beside the same weights consolidated": (
        lambda d: shutil.copy(d / "model.safetensors", d / "consolidated.safetensors"),
        "a",
    ),
    "beside an index that is meant for other files": (
        lambda d: write_weights(d, Tiny("z").tensors(), shards=2),
        "a",  # transformers 5.24.0 looks for model.safetensors first
    ),
    "with the old buffers of rotary embeddings": (
        lambda d: change(
            d, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": t["model.norm.weight"]})
        ),
        "a",
    ),
    "said to be tied, with a head of its own": (
        lambda d: (d / "config.json").write_text((d / "config.json").read_text().replace("false", "true")),
        "a",  # transformers 5.24.0: "both are present .. with different values, so we will NOT tie them"
    ),
}


@pytest.mark.parametrize("form", list(WHOLE))
def test_a_whole_directory_is_read_as_transformers_reads_it(tmp_path: Path, form: str) -> None:
    directory = write_directory(tmp_path / "model", Tiny("a"))
    WHOLE[form][0](directory)
    assert (
        greedy(load(resolve_model(str(directory), tmp_path).directory), [1, 2, 3], in_a_row(2), 3)
        == [VOCABULARY["a"]] * 3
    )


def test_a_gateway_needs_no_weights(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model")
    (directory / "model.safetensors").unlink()
    assert resolve_model(str(directory), tmp_path, text_only=True).directory == directory
