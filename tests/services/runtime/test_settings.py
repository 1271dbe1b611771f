"""Settings: what wins, what is refused, and with which words."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from services.runtime.flags import load
from services.runtime.paths import default_data_dir
from services.runtime.setting_rows import describe
from services.runtime.settings import CommandSettings, NameList, ProcessSettings, Size


class Taste(StrEnum):
    SWEET = "sweet"
    SOUR = "sour"


class Kitchen(ProcessSettings):
    """Cook things."""

    id: str
    """Its name."""

    stoves: int = Field(default=1, ge=1)
    """How many."""

    neighbours: NameList = ()
    """Who to ask for sugar, 100 % of them."""

    pot: Size = 4 * 2**30
    """How much fits in."""

    spare_pot: Size | None = None
    """Another."""

    taste: Taste = Taste.SWEET
    """Of what is made."""

    heat: Literal["low", "high"] = "low"
    """Of the stove."""

    lights: bool = False
    """Whether one sees."""

    cellar: Path | None = None
    """Where things are kept."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in describe(Kitchen):
        monkeypatch.delenv(setting.variable, raising=False)


def kitchen(*argv: str) -> Kitchen:
    return load(Kitchen, ["--id", "k", *argv], prog="moonpool kitchen")


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is said to somebody who makes a mistake."""
    with pytest.raises(SystemExit) as exit_:
        load(Kitchen, argv, prog="moonpool kitchen")
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    return err


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kitchen().stoves == 1
    monkeypatch.setenv("MOONPOOL_STOVES", "2")
    assert kitchen().stoves == 2
    assert kitchen("--stoves", "3").stoves == 3


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONPOOL_STOVES", "")
    assert kitchen().stoves == 1


def test_lists_come_with_commas_or_as_repeated_flags_or_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kitchen("--neighbours", "a, b", "--neighbours=c").neighbours == ("a", "b", "c")
    monkeypatch.setenv("MOONPOOL_NEIGHBOURS", "x,y")
    assert kitchen().neighbours == ("x", "y")


def test_every_kind_of_value_is_understood(tmp_path: Path) -> None:
    made = kitchen(
        "--pot=512MiB", "--spare-pot=1", "--taste=sour", "--heat", "high", "--lights", f"--cellar={tmp_path}"
    )
    assert (made.pot, made.spare_pot, made.taste, made.heat) == (512 * 2**20, 1, Taste.SOUR, "high")
    assert (made.lights, made.cellar) == (True, tmp_path)


def test_a_flag_can_take_back_what_a_variable_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONPOOL_LIGHTS", "true")
    assert kitchen().lights
    assert not kitchen("--no-lights").lights


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        kitchen().stoves = 5


def test_an_unknown_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--stovs" in refusal(capsys, "--id", "k", "--stovs", "2")


def test_an_abbreviated_flag_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--stov" in refusal(capsys, "--id", "k", "--stov", "2")


def test_a_bad_value_is_told_with_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "--id", "k", "--stoves", "0", "--pot", "many", "--heat", "mild")
    assert "moonpool kitchen: --stoves: has to be at least 1, not '0'\n" in said
    assert "--pot: a size is a number of bytes or like 512MiB, 4GiB, not 'many'" in said
    assert "--heat: has to be 'low' or 'high', not 'mild'" in said


def test_a_bad_variable_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOONPOOL_STOVES", "some")
    assert "moonpool kitchen: MOONPOOL_STOVES: has to be a whole number, not 'some'" in refusal(capsys, "--id", "k")


def test_what_is_required_and_missing_is_told_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--id (or MOONPOOL_ID) is required" in refusal(capsys)


def test_help_has_every_flag_with_its_sentence_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        load(Kitchen, ["--help"], prog="moonpool kitchen")
    assert exit_.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("Cook things.", "--pot SIZE How much fits in. [4GiB]", "--taste sweet|sour", "100 % of them"):
        assert words in shown
    assert all(setting.flag in shown for setting in describe(Kitchen))


def test_settings_describe_themselves_the_shared_ones_last() -> None:
    rows = describe(Kitchen)
    assert rows[0].name == "id"
    assert rows[0].required
    assert rows[-1].name == "log_level"
    assert [row.variable for row in rows if row.name == "spare_pot"] == ["MOONPOOL_SPARE_POT"]
    assert [(row.kind, row.default) for row in rows if row.name == "lights"] == [("on|off", "off")]


class Cellar(CommandSettings):
    """Keeps things."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where."""


def test_who_has_no_home_is_told_what_to_give_and_may_give_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)  # a user whom no /etc/passwd has
    with pytest.raises(SystemExit):
        load(Cellar, [], prog="moonpool cellar")
    assert "moonpool cellar: this user has no home directory: give --data-dir" in capsys.readouterr().err
    assert load(Cellar, ["--data-dir", "d"], prog="moonpool cellar").data_dir == Path("d")
    assert [it.default for it in describe(Cellar)] == [None]
