"""Which special and added tokens a directory's files name, as transformers 5.24 puts them together.

tokenizer_config.json     named tokens (bos_token ..), extra ones, and added_tokens_decoder
special_tokens_map.json   overrides the former, but is not looked at beside an added_tokens_decoder;
added_tokens.json         nor is this
tokenizer.json            its added_tokens, last
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from services.gateway.tokenizer.classes import TokenizerClass
from services.gateway.tokenizer.files import TextError, TokenizerFiles

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
EXTRA, OLD_EXTRA = "extra_special_tokens", "additional_special_tokens"

Token = str | AddedToken


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """named: by role. extra: without one. added: by the id that a file gives."""

    named: Mapping[str, Token]
    extra: tuple[Token, ...]
    added: Mapping[int, AddedToken]

    @property
    def roles(self) -> dict[str, str]:
        """The named ones as templates write them."""
        return {role: _text(token) for role, token in self.named.items()}

    def add_to(self, tokenizer: Tokenizer, *, again: bool) -> None:
        """Make them tokens of this tokenizer, in transformers' order, which decides about the ids of new ones.

        again: every special token once more, with plain flags (Qwen2Tokenizer).
        """
        wanted: list[Token] = [self.added[id_] for id_ in sorted(self.added)]
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | set(map(_text, wanted))
        special = [*self.named.values(), *self.extra]
        seen: set[str] = set()
        for token in special:
            if _text(token) not in known and repr(token) not in seen:
                seen.add(repr(token))
                wanted.append(token)
        names = set(self.roles.values())
        tokenizer.add_tokens([_as_added(token, special=_text(token) in names) for token in wanted])
        if again:
            tokenizer.add_tokens([AddedToken(text, special=True) for text in dict.fromkeys(map(_text, special))])


def special_tokens(files: TokenizerFiles, chosen: TokenizerClass) -> SpecialTokens:
    """Raises TextError for what is no token."""
    given = dict(files.tokenizer_config)
    if OLD_EXTRA in given and not given.get(EXTRA):
        given[EXTRA] = given.pop(OLD_EXTRA)
    own = {key: given.pop(key) for key in list(given) if _is_own(key) and isinstance(given[key], str)}
    _move_named_extra(given, own)
    added: dict[int, AddedToken] = {}
    if given.get("added_tokens_decoder") is not None:
        added |= _decoder(files, given["added_tokens_decoder"])
    else:
        _override(given, files)
        _move_named_extra(given, own)
        special = {_content(given.get(role)) for role in NAMED} | set(map(_content, given.get(EXTRA) or ()))
        added |= _added_json(files, special)
        added |= _added_of_tokenizer(files)
    if OLD_EXTRA in given and EXTRA not in given:
        given[EXTRA] = given.pop(OLD_EXTRA)
    return _together(files, chosen, given, own, added)


def _together(
    files: TokenizerFiles,
    chosen: TokenizerClass,
    given: Mapping[str, Any],
    own: Mapping[str, Any],
    added: Mapping[int, AddedToken],
) -> SpecialTokens:
    place = str(files.directory)
    by_content = {token.content: token for token in added.values()}
    named: dict[str, Token] = {}
    padding = (files.tokenizer or {}).get("padding")
    for role in NAMED:
        value = given[role] if role in given else chosen.named.get(role)
        if role == "pad_token" and role not in given and role not in chosen.named and chosen.build is None and padding:
            value = padding.get("pad_token")
        if value is not None:
            token = _token(value, f"{place}: {role}")
            named[role] = by_content.get(_text(token), token) if role in given else token
    auto = {key: value for key, value in given.items() if _is_own(key) and isinstance(value, Mapping | Token)}
    named |= {key: _token(value, f"{place}: {key}") for key, value in {**auto, **own}.items() if value is not None}
    extra = given.get(EXTRA) or []
    if not isinstance(extra, list):
        raise TextError(f"{place}: {EXTRA} is neither a list nor an object")
    return SpecialTokens(named, tuple(_token(value, f"{place}: {EXTRA}") for value in extra), added)


def _is_own(key: str) -> bool:
    """Whether it names a role that only this model has, as ``image_token``."""
    return key.endswith("_token") and key not in NAMED


def _move_named_extra(given: dict[str, Any], own: dict[str, Any]) -> None:
    if isinstance(given.get(EXTRA), dict):
        own |= given.pop(EXTRA)


def _override(given: dict[str, Any], files: TokenizerFiles) -> None:
    place = files.directory / "special_tokens_map.json"
    for key, value in files.special_tokens_map.items():
        if key == EXTRA and isinstance(value, list):
            before = given.get(EXTRA) or []
            given[key] = [*before, *(each for each in value if each not in before)]
        elif isinstance(value, Mapping) and key != EXTRA:
            given[key] = _added({**value, "special": True}, f"{place}: {key}")
        else:
            given[key] = value


def _decoder(files: TokenizerFiles, decoder: object) -> dict[int, AddedToken]:
    place = f"{files.directory / 'tokenizer_config.json'}: added_tokens_decoder"
    if not isinstance(decoder, Mapping) or not all(str(id_).isdecimal() for id_ in decoder):
        raise TextError(f"{place} is not an object of tokens by id")
    return {int(id_): _added(value, place) for id_, value in decoder.items()}


def _added_json(files: TokenizerFiles, special: set[str | None]) -> dict[int, AddedToken]:
    place = files.directory / "added_tokens.json"
    if not all(type(id_) is int for id_ in files.added_tokens.values()):
        raise TextError(f"{place} is not an object of ids by token")
    return {
        id_: AddedToken(text, normalized=text not in special, special=text in special)
        for text, id_ in files.added_tokens.items()
    }


def _added_of_tokenizer(files: TokenizerFiles) -> dict[int, AddedToken]:
    place = f"{files.directory / 'tokenizer.json'}: added_tokens"
    return {
        each["id"]: _added({key: value for key, value in each.items() if key != "id"}, place)
        for each in (files.tokenizer or {}).get("added_tokens") or ()
    }


def _token(value: object, place: str) -> Token:
    return value if isinstance(value, Token) else _added(value, place)


def _added(value: object, place: str) -> AddedToken:
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise TextError(f"{place} has {value!r:.80}, which is no token")
    flags = {key: flag for key, flag in value.items() if key not in ("content", "__type") and flag is not None}
    try:
        return AddedToken(value["content"], **flags)
    except TypeError as error:
        raise TextError(f"{place} has {value!r:.80}, which is no token: {error}") from error


def _as_added(token: Token, *, special: bool) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True)
    if not special or token.special:
        return token
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def _text(token: Token) -> str:
    return token if isinstance(token, str) else token.content


def _content(value: object) -> str | None:
    """Of a token; transformers does not look into tokenizer_config.json's objects when it asks this."""
    return _text(value) if isinstance(value, Token) else None
