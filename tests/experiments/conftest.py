"""Whole experiments: shapes and types of arrays are checked once for each, in the contracts, and here cost a fifth."""

from collections.abc import Iterator

import pytest

from helpers.shapes import shapes_checked


@pytest.fixture(autouse=True, scope="module")
def shapes_unchecked_in_experiments() -> Iterator[None]:
    """Let every shape through but where a test asks for the checks."""
    with shapes_checked(False):
        yield
