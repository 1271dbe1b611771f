"""What stands in a directory's tokenizer files, read and checked for their form only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]


class TextError(Exception):
    """The model's files cannot be used for text; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The files by their names; empty where there is none. tokenizer: tokenizer.json, or None."""

    directory: Path
    config: Document
    tokenizer_config: Document
    special_tokens_map: Document
    added_tokens: Document
    tokenizer: Document | None


def read_files(directory: Path) -> TokenizerFiles:
    """Raises TextError."""
    path = directory / "tokenizer.json"
    return TokenizerFiles(
        directory,
        config=read_json(directory / "config.json"),
        tokenizer_config=read_json(directory / "tokenizer_config.json"),
        special_tokens_map=read_json(directory / "special_tokens_map.json"),
        added_tokens=read_json(directory / "added_tokens.json"),
        tokenizer=read_json(path) if path.is_file() else None,
    )


def read_json(path: Path) -> Document:
    """The object in a file, empty where there is no file. Raises TextError."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TextError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TextError(f"{path} is not a JSON object")
    return document
