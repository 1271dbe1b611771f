"""docs/kvstore.md says what the code does."""

import re
from pathlib import Path
from struct import calcsize

from kvstore.frames import Grant, Kind, Lane
from kvstore.framing import HEADER_FIELDS
from kvstore.slots import NEXT, SlotEvent, SlotState
from kvstore.ssd_format import FILE_FIELDS, INDEX_FIELDS, SLOT_FIELDS

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


def ssd_format() -> str:
    """One row for each field of each kind, and where it is."""
    rows = [["field", "superblock", "slot header", "index"], ["---"] * 4]
    kinds = [placed(fields) for fields in (FILE_FIELDS, SLOT_FIELDS, INDEX_FIELDS)]
    names = dict.fromkeys(name for kind in kinds for name in kind)
    rows += [[f"**{name}**", *(kind.get(name, "") for kind in kinds)] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def frame_tables() -> str:
    """Where each field of a frame's header is, and the numbers of kinds and grants."""
    fields = placed(HEADER_FIELDS)
    rows = [list(fields), ["---"] * len(fields), list(fields.values())]
    header = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    numbers = [", ".join(f"{each.value} {each.name}" for each in enum) for enum in (Kind, Lane, Grant)]
    return "\n\n".join(
        [header, *(f"{what}: {told}." for what, told in zip(("Kinds", "Lanes", "Grants"), numbers, strict=True))]
    )


def test_the_frame_format_is_the_one_that_the_code_speaks() -> None:
    told = PAGE.partition("<!-- frames -->\n")[2].partition("\n<!-- end of frames -->")[0]
    assert told == frame_tables(), f"put this into docs/kvstore.md:\n{frame_tables()}"
    bodies = re.findall(r"^\| ([A-Z_]+) \|", PAGE.partition("<!-- end of frames -->")[2], re.MULTILINE)
    assert bodies == [kind.name for kind in Kind], "each kind has a row that says what is in its body"


def placed(fields: dict[str, str]) -> dict[str, str]:
    """First and last byte of each."""
    found, start = {}, 0
    for name, code in fields.items():
        end = start + calcsize("<" + code)
        found[name] = f"{start}..{end - 1}"
        start = end
    return found


def test_the_ssd_format_is_the_one_that_the_code_reads_and_writes() -> None:
    told = PAGE.partition("<!-- ssd format -->\n")[2].partition("\n<!-- end of ssd format -->")[0]
    assert told == ssd_format(), f"put this into docs/kvstore.md:\n{ssd_format()}"


def test_every_file_of_the_package_is_described() -> None:
    files = {path.name for path in (ROOT / "kvstore").glob("*.py")} - {"__init__.py"}
    described = set(re.findall(r"`(\w+\.py)`", PAGE.partition("## The nouns")[0]))
    assert described == files


def test_every_test_that_is_said_to_show_a_promise_exists() -> None:
    folders = (ROOT / "tests" / "kvstore", ROOT / "tests" / "services" / "store")
    source = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 15
    assert [name for name in named if f"def {name}(" not in source] == []
