"""Rows of facts: kept while known, empty afterwards, nobody's always."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scheduler.table import NOBODY, Table

DTYPE = np.dtype([("load", "f8")])


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnopqrst"), st.integers(1, 9), st.booleans()), max_size=80))
def test_it_knows_what_a_dictionary_would_know(facts: list[tuple[str, int, bool]]) -> None:
    table: Table[str] = Table(DTYPE, (-1.0,))
    known: dict[str, int] = {}
    for key, load, leaves in facts:
        if leaves:
            table.remove(key)
            known.pop(key, None)
        else:
            row = table.add(key)  # first: it may make room, in other rows
            table.rows["load"][row] = known[key] = load

    loads = table.column("load")
    assert {key: loads[table.row(key)] for key in known} == known
    assert table.row("nobody") == NOBODY
    assert loads[NOBODY] == -1
    assert sorted(loads) == sorted([*known.values(), *[-1] * (len(loads) - len(known))])
    ranked = sorted(known, key=lambda key: table.ranks()[table.row(key)])
    assert ranked == sorted(known)


def test_nobody_is_never_anybody() -> None:
    table: Table[str] = Table(DTYPE, (-1.0,))
    for number in range(100):
        row = table.add(f"{number}")
        table.rows["load"][row] = 5
        assert table.column("load")[NOBODY] == -1
