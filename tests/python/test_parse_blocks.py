"""The text field `dense_blocks`: what it reads, and that no typing error passes as an empty list."""

import pytest

from jenga.runtime.settings import parse_blocks


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("", ()),
        ("  ", ()),
        ("7", (7,)),
        ("0, 1, 38-39", (0, 1, 38, 39)),
        ("3 - 5,4", (3, 4, 5)),
        ("2-2", (2,)),
        ("0, ", (0,)),
    ],
)
def test_blocks_and_ranges(text, blocks):
    assert parse_blocks(text) == frozenset(blocks)


@pytest.mark.parametrize("part", ["3-1", "5-", "-5", "1-2-3", "1--3", "two", "1.5", "0-99999999"])
def test_a_part_that_names_no_block_is_an_error(part):
    with pytest.raises(ValueError, match=f"dense_blocks must be like '0, 1, 38-39', got '{part}'"):
        parse_blocks(f"0, {part}, 2")
