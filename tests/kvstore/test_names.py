"""Names stand for whole prefixes, and nothing else has the same one."""

from hypothesis import given
from hypothesis import strategies as st

from kvstore.names import NAME_BYTES, block_names, child_name, root_name

ROOT = root_name(b"f" * 32)
TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


@given(TOKENS, st.integers(1, 9))
def test_names_of_full_blocks_are_a_chain_of_children(tokens: list[int], block_tokens: int) -> None:
    chain = block_names(ROOT, tokens, block_tokens)
    assert len(chain) == len(tokens) // block_tokens
    parent = ROOT
    for number, name in enumerate(chain):
        parent = child_name(parent, tokens[number * block_tokens : (number + 1) * block_tokens])
        assert name == parent
        assert len(name) == NAME_BYTES


@given(st.lists(st.integers(0, 1), max_size=12), st.lists(st.integers(0, 1), max_size=12), st.integers(1, 3))
def test_two_prompts_share_names_exactly_as_far_as_they_share_tokens(
    one: list[int], other: list[int], block_tokens: int
) -> None:
    pairs = zip(block_names(ROOT, one, block_tokens), block_names(ROOT, other, block_tokens), strict=False)
    for number, (name, other_name) in enumerate(pairs, start=1):
        end = number * block_tokens
        assert (name == other_name) == (one[:end] == other[:end])


def test_a_name_depends_on_everything_before_it() -> None:
    assert block_names(ROOT, [1, 2, 3, 4], 2)[1] != block_names(ROOT, [9, 2, 3, 4], 2)[1]


def test_adapters_and_salts_have_roots_of_their_own() -> None:
    roots = {
        root_name(b"f", adapter=adapter, cache_salt=salt) for adapter, salt in [("ab", "c"), ("a", "bc"), ("", "")]
    }
    assert len(roots) == 3


def test_a_root_never_changes_between_releases() -> None:
    assert root_name(b"f" * 32).hex() == "702c8e1268f27b360702666cee3ac569"
    assert child_name(ROOT, [1, 2, 3]).hex() == "0b2211a074848989d6968ddf9ae87803"
