"""The index of who holds which prefix, against sets."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.prefixes import PrefixIndex
from scheduler.vocabulary import StoreId
from tests.scheduler.build import names, prompt

CHAINS = [names(prompt(24, start=start)) for start in (0, 1)]
FORK = (*CHAINS[0][:2], *CHAINS[1][2:])
STORES = [StoreId(name) for name in "abc"]

deltas = st.lists(
    st.tuples(
        st.sampled_from(["gained", "gained", "lost", "forget"]),
        st.sampled_from(STORES),
        st.lists(st.sampled_from([*CHAINS[0], *CHAINS[1]]), max_size=6),
    ),
    max_size=30,
)


@given(deltas)
def test_it_knows_what_sets_would_know(facts: list[tuple[str, StoreId, list[bytes]]]) -> None:
    index, sets = PrefixIndex(), {store: set[bytes]() for store in STORES}
    for fact, store, changed in facts:
        match fact:
            case "gained":
                index.gained(store, changed)  # type: ignore[arg-type]
                sets[store] |= set(changed)
            case "lost":
                index.lost(store, changed)  # type: ignore[arg-type]
                sets[store] -= set(changed)
            case _:
                index.forget(store)
                sets[store].clear()

    for chain in (*CHAINS, FORK, ()):
        held = dict.fromkeys(STORES, 0)
        for store in STORES:
            while held[store] < len(chain) and chain[held[store]] in sets[store]:
                held[store] += 1
        assert index.longest(chain) == {store: length for store, length in held.items() if length}
    assert all(index.held(store) == len(sets[store]) for store in STORES)


def test_a_hole_ends_a_prefix() -> None:
    index = PrefixIndex()
    index.gained(STORES[0], [*CHAINS[0][:2], *CHAINS[0][3:]])

    assert index.longest(CHAINS[0]) == {STORES[0]: 2}


def test_a_store_that_is_forgotten_leaves_nothing_to_the_next() -> None:
    index = PrefixIndex()
    index.gained(STORES[0], CHAINS[0])
    index.forget(STORES[0])
    index.gained(STORES[1], CHAINS[1])

    assert index.longest(CHAINS[0]) == {}
    assert index.longest(CHAINS[1]) == {STORES[1]: 6}
