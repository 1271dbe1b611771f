"""Find and open all the parts of a GGUF model, and refuse what is not all of it.

A split model's parts lie side by side and are called ``NAME-00001-of-00003.gguf``. Its
metadata stands in the first; each says how many parts and how many tensors there are
(``split.count``, ``split.no``, ``split.tensors.count``), as llama.cpp's ``llama-gguf-split`` writes them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.llama.config import lfs_pointer
from engine.llama.gguf_structure import check_structure
from engine.port import EngineError

PART_NAME = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


@dataclass(frozen=True, slots=True)
class GgufModel:
    """paths: its parts in order. fields: the first part's metadata by key. tensors: of all parts, by name;
    gguf.ReaderTensor, which is not typed."""

    name: str
    paths: tuple[Path, ...]
    fields: Mapping[str, Any]
    tensors: Mapping[str, Any]


def model_name(path: Path) -> str:
    """The file's name without its ending, and without which part it is."""
    match = PART_NAME.fullmatch(path.stem)
    return match["name"] if match is not None and int(match["count"]) > 1 else path.stem


def part_paths(path: Path) -> tuple[Path, ...]:
    """The files that belong to the model of which ``path`` is a part, in order; by their names only.

    Raises EngineError that names the parts which are not there.
    """
    match = PART_NAME.fullmatch(path.stem)
    if match is None or (count := int(match["count"])) < 2:
        return (path,)
    paths = tuple(path.with_name(f"{match['name']}-{number + 1:05}-of-{count:05}.gguf") for number in range(count))
    missing = [each.name for each in paths if not each.is_file()]
    if not missing:
        return paths
    if path.is_file() and _split(_open(path)[0])[0] < 2:
        return (path,)  # a whole model under the name of a part
    raise EngineError(f"{path.name} is one of {count} parts; missing beside it: {', '.join(missing)}")


def open_gguf(path: Path) -> GgufModel:
    """The model in that file and its other parts. Raises EngineError."""
    paths = part_paths(path)
    heads, readers = zip(*(_open(each) for each in paths), strict=True)
    tensors: dict[str, Any] = {}
    for place, reader in zip(paths, readers, strict=True):
        for tensor in reader.tensors:
            if tensor.name in tensors:
                raise EngineError(f"{place.name} has the tensor {tensor.name}, and so has another part")
            tensors[tensor.name] = tensor
    for number, (place, head) in enumerate(zip(paths, heads, strict=True)):
        _check_part(place, number, len(paths), head)
    promised = heads[0].get("split.tensors.count") if len(paths) > 1 else heads[0].get("GGUF.tensor_count")
    if promised is not None and int(promised) != len(tensors):
        raise EngineError(f"{path.name} has {len(tensors)} tensors with all its parts, but should have {int(promised)}")
    name = str(heads[0].get("general.name") or model_name(path))
    return GgufModel(name, paths, heads[0], tensors)


def _check_part(path: Path, number: int, count: int, fields: Mapping[str, Any]) -> None:
    stated, place = _split(fields)
    if stated > 1 and count == 1:
        wanted = f"{path.stem}-{place + 1:05}-of-{stated:05}.gguf"
        raise EngineError(
            f"{path.name} is part {place + 1} of {stated}, and its name does not say where the others are: "
            f"give all parts the names they had, such as {wanted}"
        )
    if count > 1 and (stated, place) != (count, number):
        raise EngineError(
            f"{path.name} is part {place + 1} of {stated} by what it holds, not part {number + 1} of {count}"
        )


def _split(fields: Mapping[str, Any]) -> tuple[int, int]:
    """How many parts there are, and which of them this is, from 0."""
    try:
        return int(fields.get("split.count", 1)), int(fields.get("split.no", 0))
    except (TypeError, ValueError) as error:
        raise EngineError(f"a GGUF file's split.count or split.no is no number: {error}") from error


def _open(path: Path) -> tuple[dict[str, Any], Any]:
    """Metadata by key, and the gguf.GGUFReader, which is not typed."""
    import gguf  # late: its import costs a quarter of a second

    if pointer := lfs_pointer(path):
        raise EngineError(f"{path} can't be read as a GGUF file{pointer}")
    check_structure(path)
    try:
        reader = gguf.GGUFReader(path)
        return {key: field.contents() for key, field in reader.fields.items()}, reader
    except Exception as error:  # it trusts all other numbers in the file, too: KeyError, TypeError and more come out
        raise EngineError(f"{path} can't be read as a GGUF file, it may be cut off: {error}") from error
