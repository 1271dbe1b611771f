"""``moonpool pull MODEL``: fetch and convert a model now, so that ``up`` finds it ready."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from services.models.embedded import EMBEDDED_MODEL
from services.models.errors import ModelError
from services.models.progress import showing_progress
from services.models.resolve import resolve_model
from services.runtime.flags import load
from services.runtime.paths import default_data_dir
from services.runtime.settings import CommandSettings


class PullSettings(CommandSettings):
    """Fetch a model into the data directory and convert it. The model may be named without its flag."""

    model: str = EMBEDDED_MODEL
    """A directory, a .gguf file, a Hugging Face name, or the embedded model."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where models are kept."""

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()


def main(argv: Sequence[str]) -> int:
    """Prints the directory that serves as ``--model``, alone on stdout."""
    words = list(argv)
    if words and not words[0].startswith("-"):
        words.insert(0, "--model")
    settings = load(PullSettings, words, prog="moonpool pull")
    try:
        with showing_progress() as on_progress:
            files = resolve_model(settings.model, settings.data_dir, on_progress=on_progress)
    except ModelError as error:
        print(f"moonpool pull: {error}", file=sys.stderr)
        return 1
    print(files.directory)
    return 0
