"""Nothing that a user can set, see or call is undocumented, and no generated page is stale."""

import re
from pathlib import Path

import pytest

import moonpool
from services.runtime.metric_rows import metrics
from services.runtime.reference import documented_settings, pages
from services.runtime.setting_rows import describe

ROOT = Path(__file__).parents[2]
DOCS = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
PARTS = ["architecture", "glossary", "style", "settings", "metrics"]
PARTS += ["kvstore", "engine", "scheduling", "gateway", "worker", "simulator", "loadtest", "deploy"]


@pytest.fixture(autouse=True)
def _as_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def test_generated_pages_are_fresh() -> None:
    stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"run make docs: {stale}"


def test_every_setting_has_a_sentence() -> None:
    silent = [
        f"{command} {setting.flag}"
        for command, settings in documented_settings().items()
        for setting in describe(settings)
        if len(setting.help.split()) < 2
    ]
    assert not silent


def test_a_setting_means_the_same_kind_of_value_in_every_process() -> None:
    """They share their variables, so ``MOONPOOL_X`` must not be a number here and a path there."""
    kinds: dict[str, set[str]] = {}
    for settings in documented_settings().values():
        for setting in describe(settings):
            kinds.setdefault(setting.variable, set()).add(setting.kind)
    assert {variable: kind for variable, kind in kinds.items() if len(kind) > 1} == {}


def test_every_metric_has_a_sentence_and_a_name_that_says_whose_it_is() -> None:
    for rows in metrics().values():
        for metric in rows:
            assert re.fullmatch(r"(moonpool_|vllm:|http_)[a-z0-9_]+", metric.name), metric
            assert len(metric.help.split()) >= 2, metric


def test_every_command_is_in_the_readme_and_in_the_architecture() -> None:
    for command in moonpool.COMMANDS:
        assert f"moonpool {command}" in DOCS["README.md"], command
        assert f"moonpool {command}" in DOCS["architecture.md"], command


def test_every_call_between_processes_is_in_the_architecture() -> None:
    calls: list[str] = []
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        for service, body in re.findall(r"service (\w+) \{(.*?)\n\}", path.read_text(), flags=re.DOTALL):
            calls += [f"`{service}.{call}`" for call in re.findall(r"rpc (\w+)", body)]
    assert calls
    assert [call for call in calls if call not in DOCS["architecture.md"]] == []


def test_every_part_has_a_page_and_the_readme_leads_to_it() -> None:
    for part in PARTS:
        assert f"docs/{part}.md" in DOCS["README.md"], part
        assert len(DOCS.get(f"{part}.md", "")) > 200, part
