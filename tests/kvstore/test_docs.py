"""docs/kvstore.md says what the code does."""

import re
from pathlib import Path

from kvstore.slots import NEXT, SlotEvent, SlotState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kvstore.md").read_text()


def slot_table() -> str:
    """One row for each state, one column for each event, and where it leads."""
    rows = [["state", *SlotEvent], ["---"] * (len(SlotEvent) + 1)]
    rows += [[f"**{state}**", *(NEXT.get((state, event), "") for event in SlotEvent)] for state in SlotState]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_slot_table_is_the_one_that_the_code_runs() -> None:
    told = PAGE.partition("<!-- slot table -->\n")[2].partition("\n<!-- end of slot table -->")[0]
    assert told == slot_table(), f"put this into docs/kvstore.md:\n{slot_table()}"


def test_every_file_of_the_package_is_described() -> None:
    files = {path.name for path in (ROOT / "kvstore").glob("*.py")} - {"__init__.py"}
    described = set(re.findall(r"`(\w+\.py)`", PAGE.partition("## The nouns")[0]))
    assert described == files


def test_every_test_that_is_said_to_show_a_promise_exists() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 15
    assert [name for name in named if f"def {name}(" not in source] == []
