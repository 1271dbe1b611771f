"""Load a model directory's tokenizer: what ``AutoTokenizer`` of transformers 5.24 makes of the same files.

Nothing of transformers is needed for it, which would bring torch into every gateway. What it would make and is
not known here is refused, and so is a token whose id is not the one that a file gives it: the library gives added
tokens new ids where those in the files leave a gap, and transformers says nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, processors

from services.gateway.tokenizer.classes import build, class_of
from services.gateway.tokenizer.files import TextError, TokenizerFiles, read_files
from services.gateway.tokenizer.special import SpecialTokens, special_tokens


@dataclass(frozen=True, slots=True)
class Loaded:
    """special: bos_token, eos_token and the like, by the names that templates have for them.

    template: the source of the chat template, None where there is none.
    """

    tokenizer: Tokenizer
    special: Mapping[str, str]
    template: str | None

    @property
    def eos_id(self) -> int | None:
        """The id of the end token that the tokenizer names."""
        return self.tokenizer.token_to_id(self.special["eos_token"]) if "eos_token" in self.special else None


def load_tokenizer(directory: Path) -> Loaded:
    """Raises TextError."""
    files = read_files(directory)
    if files.tokenizer_config.get("fast_tokenizer_files") not in (None, [], ["tokenizer.json"]):
        raise TextError(f"{directory}: tokenizer_config.json's fast_tokenizer_files are not read, only tokenizer.json")
    chosen = class_of(files)
    tokenizer = build(chosen, files)
    special = special_tokens(files, chosen)
    special.add_to(tokenizer, again=chosen.adds_special)
    _check_ids(tokenizer, special, files)
    roles = special.roles
    if files.tokenizer is None:
        _add_ends(tokenizer, roles, files.tokenizer_config)
    tokenizer.encode_special_tokens = bool(files.tokenizer_config.get("split_special_tokens"))
    return Loaded(tokenizer, roles, _template(files))


def _check_ids(tokenizer: Tokenizer, special: SpecialTokens, files: TokenizerFiles) -> None:
    for name, text, id_ in _stated(special, files):
        got = tokenizer.token_to_id(text)
        if got != id_:
            raise TextError(
                f"{files.directory / name} gives {text!r} the id {id_}, but it becomes {got} when all files are read: "
                "ids of added tokens may leave no gap and not be given twice"
            )


def _stated(special: SpecialTokens, files: TokenizerFiles) -> Iterator[tuple[str, str, int]]:
    """Every token that a file gives an id: the file's name, the text, the id."""
    for each in (files.tokenizer or {}).get("added_tokens") or ():
        yield "tokenizer.json", each["content"], each["id"]
    source = "tokenizer_config.json" if files.tokenizer_config.get("added_tokens_decoder") else "added_tokens.json"
    for id_, token in special.added.items():
        yield source, token.content, id_


def _add_ends(tokenizer: Tokenizer, roles: Mapping[str, str], config: Mapping[str, object]) -> None:
    """What add_bos_token and add_eos_token say; beside a tokenizer.json they say nothing."""
    bos = roles.get("bos_token") if config.get("add_bos_token") else None
    eos = roles.get("eos_token") if config.get("add_eos_token") else None
    parts = [part for part in (bos, "$A", eos) if part is not None]
    ids = [(part, tokenizer.token_to_id(part)) for part in dict.fromkeys(parts) if part != "$A"]
    if ids:
        tokenizer.post_processor = processors.TemplateProcessing(single=parts, special_tokens=ids)


def _template(files: TokenizerFiles) -> str | None:
    """Files of their own take the place of tokenizer_config.json's; of several, the one called ``default``."""
    found = {path.stem: _read(path) for path in sorted((files.directory / "additional_chat_templates").glob("*.jinja"))}
    path = files.directory / "chat_template.jinja"
    if path.is_file():
        found["default"] = _read(path)
    source: object = found or files.tokenizer_config.get("chat_template")
    if isinstance(source, list):
        source = {each.get("name"): each.get("template") for each in source if isinstance(each, Mapping)}
    if isinstance(source, Mapping):
        source = source.get("default")
    if source is not None and not isinstance(source, str):
        raise TextError(f"{files.directory / 'tokenizer_config.json'}: chat_template is no text")
    return source


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TextError(f"{path} can't be read: {error}") from error
