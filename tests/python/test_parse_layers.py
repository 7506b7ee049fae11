"""The text field `dense_blocks`: what it reads, and that no typing error passes as an empty list."""

import pytest

from jenga.runtime.patch import parse_layers


@pytest.mark.parametrize(
    ("text", "layers"),
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
def test_layers_and_ranges(text, layers):
    assert parse_layers(text) == frozenset(layers)


@pytest.mark.parametrize("part", ["3-1", "5-", "-5", "1-2-3", "1--3", "two", "1.5", "0-99999999"])
def test_a_part_that_names_no_layer_is_an_error(part):
    with pytest.raises(ValueError, match=f"dense_blocks must be like '0, 1, 38-39', got '{part}'"):
        parse_layers(f"0, {part}, 2")
