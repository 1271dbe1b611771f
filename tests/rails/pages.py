"""What the pages say that can be held against the code: commands, links, headings, words in code's type."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNERS = ("moonpool", "make", "pytest", "python")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_SUBSTITUTED = re.compile(r"\$\([^)]*\)")
_BEFORE = re.compile(r"^(?:taskset -c [\d,]+ |chrt -f \d+ |\.venv/bin/)*")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line as a reader would type it, and where it stands.

    variables: what its block has exported before; whole: all of it is there, ready to run.
    """

    page: str
    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands() -> list[Command]:
    """Of every block, and of every piece of code in a sentence that names one of ours."""
    return [command for page in PAGES for command in _commands(page)]


def code(page: Path) -> list[str]:
    """What stands in code's type in sentences and tables; blocks are told apart from it."""
    return _CODE.findall(_FENCE.sub("", text(page)))


def links(page: Path) -> list[tuple[str, str]]:
    """Path and anchor of each link that leads to no other host; either may be empty."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text(page))
    return [(path, anchor) for path, _, anchor in (it.partition("#") for it in targets if "://" not in it)]


def anchors(page: Path) -> set[str]:
    """The headings, as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text(page)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def _commands(page: Path) -> Iterator[Command]:
    for _, block in _FENCE.findall(text(page)):
        variables: list[tuple[str, str]] = []
        for line in _SUBSTITUTED.sub("host", block.replace("\\\n", " ")).splitlines():
            if line.startswith("export "):
                variables += [(key, value) for key, _, value in (it.partition("=") for it in line.split()[1:])]
            if words := _ours(line):
                yield Command(name(page), words, tuple(variables), whole=True)
    for piece in code(page):
        if words := _ours(piece):
            yield Command(name(page), words)


def _ours(line: str) -> tuple[str, ...]:
    line = _BEFORE.sub("", line.strip())
    return tuple(shlex.split(line, comments=True)) if line.partition(" ")[0] in RUNNERS else ()
