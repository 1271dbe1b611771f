"""Backlogs of the links between stores: booked, over in time, taken back."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.beliefs import NO_STORES, STORE
from scheduler.links import Copy, Links
from scheduler.table import Table
from scheduler.vocabulary import RequestId, StoreId

A, B, C = (StoreId(name) for name in "abc")


def links() -> tuple[Links, Table[StoreId]]:
    table: Table[StoreId] = Table(STORE, NO_STORES)
    for store in (A, B, C):
        table.add(store)
    return Links(table), table


def backlog(table: Table[StoreId], store: StoreId) -> tuple[float, float]:
    row = table.rows[table.row(store)]
    return float(row["sends_s"]), float(row["receives_s"])


def test_a_copy_loads_both_ends_until_those_before_it_are_through() -> None:
    booked, table = links()
    booked.book(RequestId("x"), [Copy(A, B, 2.0, 2.0)], now=10)
    booked.book(RequestId("y"), [Copy(A, C, 3.0, 3.0)], now=10)

    assert [backlog(table, store) for store in (A, B, C)] == [(5, 0), (0, 2), (0, 3)]
    booked.expire(now=12)
    assert [backlog(table, store) for store in (A, B, C)] == [(3, 0), (0, 0), (0, 3)]
    booked.expire(now=15)
    assert [backlog(table, store) for store in (A, B, C)] == [(0, 0), (0, 0), (0, 0)]


def test_a_host_that_left_and_came_back_owes_nothing() -> None:
    booked, table = links()
    booked.book(RequestId("x"), [Copy(A, B, 2.0, 2.0)], now=0)
    table.remove(A)
    booked.book(RequestId("y"), [Copy(A, B, 1.0, 1.0)], now=0)
    table.add(A)
    booked.unbook(RequestId("x"))

    assert backlog(table, A) == (0, 0)
    assert backlog(table, B) == (0, 1)


@given(
    st.lists(
        st.tuples(st.sampled_from("wxyz"), st.permutations([A, B, C]), st.floats(0, 9), st.booleans()), max_size=30
    )
)
def test_whatever_was_booked_nothing_is_left_in_the_end(
    facts: list[tuple[str, list[StoreId], float, bool]],
) -> None:
    booked, table = links()
    for now, (request, (source, target, _), seconds, ends) in enumerate(facts):
        booked.book(RequestId(request), [Copy(source, target, seconds, seconds / 2)], now=now)
        assert all(value >= 0 for store in (A, B, C) for value in backlog(table, store))
        if ends:
            booked.unbook(RequestId(request))
        booked.expire(now=now)
    booked.expire(now=1e6)

    assert [backlog(table, store) for store in (A, B, C)] == [(0, 0)] * 3
