"""The index of who holds which prefix, against sets."""

from hypothesis import given
from hypothesis import strategies as st

from kvstore.digest import digest_of
from scheduler.coming import Coming, ComingIndex
from scheduler.prefixes import NO_STORE, SHARDS, PrefixIndex
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
        assert index.lengths(chain) == {store: length for store, length in held.items() if length}
    assert all(index.held(store) == len(sets[store]) for store in STORES)
    assert all(index.digests(store).dram == digest_of(list(sets[store])) for store in STORES)  # type: ignore[arg-type]


def test_a_hole_ends_a_prefix() -> None:
    index = PrefixIndex()
    index.gained(STORES[0], [*CHAINS[0][:2], *CHAINS[0][3:]])

    assert index.lengths(CHAINS[0]) == {STORES[0]: 2}


def test_a_store_that_is_forgotten_leaves_nothing_to_the_next() -> None:
    index = PrefixIndex()
    index.gained(STORES[0], CHAINS[0])
    index.forget(STORES[0])
    index.gained(STORES[1], CHAINS[1])

    assert index.lengths(CHAINS[0]) == {}
    assert index.lengths(CHAINS[1]) == {STORES[1]: 6}


def test_tiers_are_told_apart() -> None:
    index, (a, b, c), chain = PrefixIndex(), STORES, CHAINS[0]
    index.gained(a, chain[:4])
    index.gained(a, chain[1:6], ssd=True)
    index.gained(b, chain[:2], ssd=True)
    index.gained(c, chain[1:])
    found = index.longest(chain)

    assert [found.held[index.place(store)] for store in STORES] == [6, 2, 0]
    assert [found.ssd[index.place(store)] for store in STORES] == [2, 2, 0]
    assert (found.held[NO_STORE], found.ssd[NO_STORE]) == (0, 0)
    index.lost(a, chain[2:], ssd=True)
    assert index.longest(chain).held[index.place(a)] == 4
    assert (index.held(a), index.held(a, ssd=True)) == (4, 1)


def test_what_comes_is_found_as_far_as_a_prompt_agrees() -> None:
    chain, index = CHAINS[0], ComingIndex()
    run, late = Coming(STORES[0], chain[2:], 1.0), Coming(STORES[1], FORK[2:], 2.0)
    index.add(run)
    index.add(late)

    assert list(index.along(chain)) == [(2, 6, run)]
    assert list(index.along((*chain[:4], *FORK[4:]))) == [(2, 4, run)]
    assert list(index.along(chain[:3])) == [(2, 3, run)]
    assert list(index.along(chain[:2])) == []
    index.remove(run)
    assert list(index.along(chain)) == []
    assert list(index.along(FORK)) == [(2, 6, late)]


@given(st.data())
def test_many_stores_with_many_lengths_are_told_apart(data: st.DataObject) -> None:
    """More different lengths than are multiplied, more names than a byte counts."""
    chain = names(prompt(4 * 300))
    index = PrefixIndex()
    stores = [StoreId(f"s{number}") for number in range(40)]
    lengths = [(data.draw(st.integers(0, 300)), data.draw(st.integers(0, 300))) for _ in stores]
    for store, (dram, disk) in zip(stores, lengths, strict=True):
        index.gained(store, chain[:dram])
        index.gained(store, chain[:disk], ssd=True)
    found = index.longest(chain)

    for store, (dram, disk) in zip(stores, lengths, strict=True):
        place = index.place(store)
        assert (found.held[place], found.ssd[place]) == (max(dram, disk), max(0, disk - dram))


def test_forgotten_stores_are_swept_away_and_their_places_given_again() -> None:
    index = PrefixIndex()
    for number in range(100):
        index.gained(StoreId(f"{number}"), CHAINS[number % 2])
        index.forget(StoreId(f"{number}"))
        index.sweep()
    index.sweep(SHARDS)

    assert len(index) == 0
    assert index.place(StoreId("0")) == NO_STORE
    index.gained(STORES[0], CHAINS[0])
    assert index.place(STORES[0]) < 40
