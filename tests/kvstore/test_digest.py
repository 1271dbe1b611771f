"""The digest of a set of names: the same however the set came to be, another for every other set."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kvstore.changes import NameChanges
from kvstore.digest import FEW, Digest, NamesDigest, digest_of
from kvstore.names import BlockName

NAMES = [BlockName(Random(number).randbytes(16)) for number in range(3 * FEW)]
subsets = st.sets(st.integers(0, len(NAMES) - 1))


@given(subsets, subsets, st.randoms(use_true_random=False))
def test_it_follows_what_comes_and_goes_one_by_one_or_many_at_once(
    first: set[int], then: set[int], chance: Random
) -> None:
    at_once, one_by_one = NamesDigest(), NamesDigest()
    at_once.gained([NAMES[it] for it in first])
    at_once.lost([NAMES[it] for it in first - then])
    at_once.gained([NAMES[it] for it in then - first])
    for it in first:
        one_by_one.gain(NAMES[it])
    for it in chance.sample(sorted(first - then), len(first - then)):
        one_by_one.lose(NAMES[it])
    for it in then - first:
        one_by_one.gain(NAMES[it])

    assert at_once.tell() == one_by_one.tell() == digest_of([NAMES[it] for it in then])


@given(subsets, subsets)
def test_sets_that_differ_have_digests_that_differ(one: set[int], other: set[int]) -> None:
    same = digest_of([NAMES[it] for it in one]) == digest_of([NAMES[it] for it in other])

    assert same == (one == other)


def test_it_is_eight_bytes_of_each_name() -> None:
    assert digest_of([BlockName(bytes([1, *[0] * 6, 2]) + b"whatever")]) == Digest(1, 1 + (2 << 56))


def test_what_was_told_does_not_change_it() -> None:
    changes = NameChanges()
    for name in NAMES[:5]:
        changes.gain(name)
    changes.tell()
    changes.lose(NAMES[0])

    assert changes.digest == digest_of(NAMES[1:5])
