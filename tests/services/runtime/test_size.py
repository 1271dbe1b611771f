"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.size import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1073741824", 2**30),
        ("512MiB", 512 * 2**20),
        ("4GiB", 4 * 2**30),
        (" 4 gib ", 4 * 2**30),
        ("1.5KiB", 1536),
        ("2MB", 2_000_000),
        ("7b", 7),
        ("1TiB", 2**40),
    ],
)
def test_a_size_is_a_number_with_or_without_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "4 GiBi", "1e9", "4G 5", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size is"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_survives_being_written_and_read(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes
