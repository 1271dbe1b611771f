"""docs/scheduling.md shows the tables and the constants that the code has."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import ModuleType

import pytest

from scheduler import (
    admission,
    beliefs,
    booking,
    conductor,
    costs,
    demand,
    flights,
    judge,
    lifecycle,
    nobody,
    paces,
    predictions,
    replication,
    roles,
    sequence,
    shares,
)
from scheduler.policies import POLICIES
from tests.scheduler.tables import as_markdown

PAGE = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text()


@pytest.mark.parametrize(
    ("name", "following"), [("sequence", sequence.NEXT), ("lifecycle", lifecycle.NEXT)], ids=["sequence", "lifecycle"]
)
def test_a_table_is_the_codes(name: str, following: Mapping[tuple[StrEnum, StrEnum], StrEnum]) -> None:
    shown = re.search(rf"<!-- {name} table -->\n(.*?)<!-- end of {name} table -->", PAGE, re.DOTALL)

    assert shown is not None, f"docs/scheduling.md has no {name} table"
    assert shown[1] == as_markdown(following)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *((conductor, name) for name in ("INLINE_IDLE_S", "INLINE_BUSY_S", "ADVISE_S")),
        *((costs, name) for name in ("HANDOFF_S", "LINK_BYTES_PER_S", "LINK_S", "SSD_BYTES_PER_S", "FETCH_GAIN")),
        *((judge, name) for name in ("QUEUE_S", "OVERBOOKED", "SLOWER")),
        (booking, "BOOKING_TTL_S"),
        (flights, "EXPECTED_OUTPUT_TOKENS"),
        (nobody, "RETRY_AFTER_S"),
        *((paces, name) for name in ("SURE_S", "MEMORY_S", "HALF_LIFE_S", "MOST_SENDERS", "ALIKE", "LOOK_S")),
        (beliefs, "COMING_S"),
        (admission, "BATCH_LOAD"),
        (admission, "BATCH_PATIENCE_S"),
        (admission, "FAIR_LOAD"),
        (shares, "HALF_LIFE_S"),
        *((demand, name) for name in ("HALF_LIFE_S", "SETTLED_S", "MOST_BUSY", "OWN")),
        *((predictions, name) for name in ("SURE_TTFT", "SURE_TPOT", "PACE_TTFT", "PACE_TPOT", "NEARNESS", "WIDEST")),
        *((roles, name) for name in ("SHORT", "PLENTY", "SUSTAINED_S", "COOL_DOWN_S", "UNPROMISED_TTFT_S")),
        *(
            (replication, name)
            for name in (
                *("HALF_LIFE_S", "SETTLED_S", "KEPT", "ASKED", "SHARE", "LONG_S", "SUSTAINED_S"),
                *("COOL_DOWN_S", "MOST", "MOST_S", "ROOM", "WITHIN_S"),
            )
        ),
    ],
)
def test_a_constant_is_the_codes(module: ModuleType, name: str) -> None:
    assert f"| `{name}` | {getattr(module, name)} |" in PAGE


def test_every_policy_is_shown() -> None:
    assert all(f"| `{name}` |" in PAGE for name in POLICIES)


def test_every_file_of_the_part_is_introduced() -> None:
    files = {path.name for path in Path(conductor.__file__).parent.glob("*.py")} - {"__init__.py"}

    assert files == {name for name in files if f"`{name}`" in PAGE}
