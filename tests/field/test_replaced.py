"""Weights that were replaced are other weights, however much their files look the same.

Times, sizes and inodes are kept by ``cp -p``, ``rsync --times``, tar, images that are built reproducibly, and by
writing in place; each row replaces a file in one of those ways and sets its times back.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.llama import LlamaEngine
from services.models.content import content_of
from services.models.resolve import resolve_model
from tests.engine.llama.driving import greedy, in_a_row, load
from tests.field.models import VOCABULARY, Tiny, write_directory, write_gguf

PROMPT = list(range(40))
Replace = Callable[[Path, Path], None]


def by_copy(old: Path, new: Path) -> None:
    """The same inode, as ``cp`` and ``rsync --inplace`` write."""
    shutil.copyfile(new, old)


def by_rename(old: Path, new: Path) -> None:
    """Another inode, as ``rsync``, tar and downloads write."""
    shutil.copyfile(new, old.with_suffix(".new"))
    old.with_suffix(".new").replace(old)


def by_link(old: Path, new: Path) -> None:
    """As in the Hub's cache, where names are links to blobs."""
    old.unlink()
    old.symlink_to(new)


def by_hard_link(old: Path, new: Path) -> None:
    old.unlink()
    old.hardlink_to(new)


def in_one_place(old: Path, new: Path) -> None:
    """Sixteen bytes of one tensor, far from any header: the last place in which the two differ."""
    theirs, ours = new.read_bytes(), bytearray(old.read_bytes())
    last = max(at for at in range(len(ours)) if ours[at] != theirs[at])
    ours[last - 15 : last + 1] = theirs[last - 15 : last + 1]
    with old.open("r+b") as file:
        file.write(ours)


REPLACE = [by_copy, by_rename, by_link, by_hard_link, in_one_place]


def replaced(old: Path, new: Path, replace: Replace) -> None:
    facts = old.stat()
    assert new.stat().st_size == facts.st_size
    replace(old, new)
    os.utime(old, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (old.stat().st_size, old.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)


def answer(engine: LlamaEngine) -> list[int]:
    return greedy(engine, PROMPT, in_a_row(4), 8)


@pytest.mark.parametrize("replace", REPLACE, ids=lambda replace: replace.__name__)
@pytest.mark.parametrize("shards", [0, 3])
def test_replaced_safetensors_have_another_digest(tmp_path: Path, replace: Replace, shards: int) -> None:
    here = write_directory(tmp_path / "model", Tiny(attentive=True, seed=1), shards=shards)
    other = write_directory(tmp_path / "other", Tiny(attentive=True, seed=2), shards=shards)
    before = load(here).weights
    name = sorted(path.name for path in here.glob("*.safetensors"))[-1]
    replaced(here / name, other / name, replace)
    after = load(here).weights
    assert after != before
    replaced(
        here / name, write_directory(tmp_path / "again", Tiny(attentive=True, seed=1), shards=shards) / name, by_copy
    )
    assert load(here).weights == before


@pytest.mark.parametrize("replace", REPLACE, ids=lambda replace: replace.__name__)
def test_a_replaced_part_of_a_gguf_model_is_converted_anew(tmp_path: Path, replace: Replace) -> None:
    one, two = Tiny(attentive=True, seed=1), Tiny(attentive=True, seed=2)
    here = write_gguf(tmp_path / "model" / "m.gguf", one, tensors_per_part=5)
    other = write_gguf(tmp_path / "other" / "m.gguf", two, tensors_per_part=5)
    before = load(resolve_model(str(here[0]), tmp_path / "data").directory)
    replaced(here[-1], other[-1], replace)
    after = load(resolve_model(str(here[0]), tmp_path / "data").directory)
    assert after.weights != before.weights


def test_a_replaced_gguf_file_answers_as_the_new_one(tmp_path: Path) -> None:
    [here], [other] = write_gguf(tmp_path / "m.gguf", Tiny("a")), write_gguf(tmp_path / "n.gguf", Tiny("z"))
    resolve_model(str(here), tmp_path / "data")
    replaced(here, other, by_copy)
    assert answer(load(resolve_model(str(here), tmp_path / "data").directory)) == [VOCABULARY["z"]] * 8


def test_a_configuration_that_was_replaced_has_another_digest(tmp_path: Path) -> None:
    here = write_directory(tmp_path / "model", Tiny(attentive=True), config={"rope_theta": 10000.0})
    other = write_directory(tmp_path / "other", Tiny(attentive=True), config={"rope_theta": 20000.0})
    before = load(here).weights
    replaced(here / "config.json", other / "config.json", by_copy)
    assert load(here).weights != before


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(bytes(path.stat().st_size)), lambda path: os.truncate(path, 0)]
)
def test_a_running_model_keeps_its_weights_when_their_file_is_overwritten(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    here = write_directory(tmp_path / "model", Tiny(attentive=True))
    engine = load(here)
    before = answer(engine)
    damage(here / "model.safetensors")
    assert answer(engine) == before


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 100)], ids=["lost", "cut"])
def test_a_conversion_that_lost_something_is_made_again(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    [gguf] = write_gguf(tmp_path / "m.gguf")
    made = resolve_model(str(gguf), tmp_path / "data").directory
    whole = content_of(sorted(made.iterdir()))
    damage(made / name)
    assert resolve_model(str(gguf), tmp_path / "data").directory == made
    assert content_of(sorted(made.iterdir())) == whole


def test_content_is_that_of_each_file_not_of_their_bytes_in_a_row(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    seen = set()
    for first, second in ((b"abc", b"def"), (b"abcd", b"ef"), (b"def", b"abc"), (b"abc", b"deF")):
        paths[0].write_bytes(first)
        paths[1].write_bytes(second)
        seen.add(content_of(paths))
    assert len(seen) == 4
