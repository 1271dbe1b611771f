"""What the pages tell a reader to type, to open and to look for is there."""

import argparse
import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

import moonpool
from services.runtime.flags import load
from services.runtime.metric_rows import metrics
from services.runtime.reference import documented_settings
from services.runtime.setting_rows import describe
from tests.rails.pages import PAGES, ROOT, Command, anchors, code, commands, links, name, text

PLACEHOLDERS = {"N": "1", "NAME": "random", "DIR": ".", "FILE": "trace.jsonl", "MODEL": "m", "U": "http://127.0.0.1:1"}
"""What stands for a value in a sentence; ``FLAGS``, ``..`` and what is in brackets stands for nothing."""

THEIRS = {
    "--gpus",
    "--save-detailed",
    "--scale",
    "--volumes",
    "balancing_threshold",
    "ca_file",
    "cert_file",
    "key_file",
    "probe_*",
    "rps_change_events",
    "sock_recv_into",
    "spec_decode_*",
    "THP_MEM_ALLOC_ENABLE",
    "tls_config",
}
"""Names and flags in the pages that other people's software has."""

ROWS = re.compile(r"(prefill|decode|place|restart)_\w+")
"""Rows of benches, whose names have a size in them."""

PACKAGES = "services|scheduler|kvstore|engine|loadtest|tests|docs|proto"
_WORD = re.compile(r"(?<![\w:-])[A-Za-z]\w*_(?:\w+|\*)|\b[A-Z][a-z]+[A-Z]\w+")
"""What only code is spelled like."""


class Parsed(BaseException):
    """The arguments were taken; carries on nowhere."""


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


def source() -> str:
    """Everything that is no page."""
    kinds = (".py", ".proto", ".c", ".h", ".toml", ".json", ".yml", "Makefile", "Dockerfile")
    return "\n".join((ROOT / path).read_text(encoding="utf-8") for path in tracked() if path.endswith(kinds))


def ours(runner: str) -> list[Command]:
    return [command for command in commands() if command.words[0] == runner]


@pytest.fixture
def only_parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands go as far as reading what they are told, by their own parsers, and no further."""
    parse = argparse.ArgumentParser.parse_known_args

    def read(self: argparse.ArgumentParser, args: Sequence[str], _: object = None) -> NoReturn:
        asked, others = parse(self, args)
        if others and getattr(asked, "simulate", False):
            moonpool.main(["simulate", *others])
        if others:
            self.error(f"unrecognized arguments: {others}")
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", read)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.jsonl").touch()
    (tmp_path / "ours.json").symlink_to(ROOT / "loadtest/profiles/cpu-smollm2.json")


@pytest.mark.parametrize("command", [it for it in ours("moonpool") if len(it.words) > 1], ids=str)
def test_every_command_of_ours_is_understood(
    command: Command, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *rest = command.words[1:]
    for variable, value in command.variables:
        monkeypatch.setenv(variable, value)
    if not command.whole:
        rest = [PLACEHOLDERS.get(word, word) for word in rest if not re.search(r"\[|\]|^\.\.$", word)]
    if not rest and not command.whole:
        assert name in moonpool.COMMANDS
    elif name in documented_settings() and name != "pull":
        load(documented_settings()[name], rest, prog=name)
    else:
        request.getfixturevalue("only_parsed")
        with pytest.raises(Parsed):
            moonpool.main([name, *rest])


def test_every_target_of_make_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert [str(it) for it in ours("make") if not set(it.words[1:2]) <= set(targets)] == []


def test_every_module_that_is_to_be_run_can_be() -> None:
    modules = [it for it in ours("python") if it.words[1] == "-m"]
    assert modules
    assert [str(it) for it in modules if importlib.util.find_spec(it.words[2]) is None] == []


def test_every_test_that_is_to_be_run_is_there_under_its_mark() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    known = {mark.partition(":")[0] for mark in options["markers"]}
    wrong = []
    for command in ours("pytest"):
        words = command.words
        marks = {words[place + 1] for place, word in enumerate(words) if word == "-m"}
        paths = [word for word in words[1:] if "/" in word]
        if not marks <= known or not all((ROOT / path).exists() for path in paths):
            wrong.append(str(command))
    assert wrong == []


def test_every_link_leads_to_a_page_and_every_anchor_to_a_heading() -> None:
    wrong = []
    for page in PAGES:
        for path, anchor in links(page):
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{name(page)}: {path}#{anchor}")
    assert wrong == []


def test_every_file_of_ours_that_is_named_is_there() -> None:
    files = tracked()
    folders = {str(parent) for path in files for parent in Path(path).parents}

    def there(path: str) -> bool:
        return any(f"/{it}".endswith(f"/{path.rstrip('/')}") for it in [*files, *folders])

    wrong = [f"{name(page)}: {path}" for page in PAGES for path in _paths(page) if not there(path)]
    assert wrong == []


def test_every_flag_and_variable_that_is_named_can_be_given() -> None:
    everything = source()
    given = set(re.findall(r'"(--[a-z][a-z0-9-]+)"', everything)) | THEIRS
    variables, words = _variables(), set(re.findall(r"\w+", everything))
    wrong = []
    for page in PAGES:
        wrong += [f"{name(page)}: {it}" for it in set(re.findall(r"\bMOONPOOL_[A-Z_]+\b", text(page))) - variables]
        for flag in {flag for it in code(page) for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", it)} - given:
            field = flag.removeprefix("--no-").removeprefix("--").replace("-", "_")
            if field not in words:
                wrong.append(f"{name(page)}: {flag}")
    assert wrong == []


def test_every_metric_that_is_named_is_counted() -> None:
    counted = {row.name for rows in metrics().values() for row in rows}
    pieces = {(name(page), it) for page in PAGES for piece in code(page) for it in _WORD.findall(piece)}
    named = {(page, it) for page, it in pieces if it.startswith("moonpool_")}
    assert named
    assert [f"{page}: {it}" for page, it in sorted(named) if not _found(it, counted)] == []


def test_every_name_in_codes_type_is_in_the_code() -> None:
    words = set(re.findall(r"\w+", source()))
    wrong = []
    for page in PAGES:
        for piece in code(page):
            if "/" in piece or re.search(r"\.\w{1,5}$", piece):
                continue  # a path
            wrong += [f"{name(page)}: {it}" for it in _WORD.findall(piece) if not (_theirs(it) or _found(it, words))]
            owner = re.fullmatch(r"([A-Z]\w+)\.(\w+)", piece)
            if owner and not {owner[1], owner[2]} <= words:
                wrong.append(f"{name(page)}: {piece}")
    assert wrong == []


def _variables() -> set[str]:
    return {setting.variable for it in documented_settings().values() for setting in describe(it)}


def _found(name: str, names: set[str]) -> bool:
    """Whether it is one of them; or how one begins, where its end is left open with a ``*``."""
    return name in names or (name.endswith("*") and any(it.startswith(name[:-1]) for it in names))


def _theirs(name: str) -> bool:
    """Told about elsewhere, or nothing of ours."""
    return name.startswith(("moonpool_", "MOONPOOL_")) or name in THEIRS or ROWS.fullmatch(name) is not None


def _paths(page: Path) -> Iterator[str]:
    """Files and folders of ours in code's type: a source, or a page, by its ending; a folder by where it begins."""
    for piece in code(page):
        yield from re.findall(r"(?<![\w/.<*-])[\w-][\w./-]*\.(?:py|c|h|md|proto|toml|txt|yml|svg)\b", piece)
        yield from re.findall(rf"(?<![\w/.-])(?:{PACKAGES})/[\w/]*(?![\w./-])", piece)
