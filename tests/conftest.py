"""Array shapes and types are checked in tests only: the hook must stand before softmode is first imported."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

jaxtyping.install_import_hook("softmode", "beartype.beartype")
torch.set_num_threads(1)
pytest.register_assert_rewrite("helpers")


# files that take longest, longest first: begun last, one of them would keep one of two workers waiting
LONGEST = (
    "test_contracts.py",
    "test_benchmarks.py",
    "test_documented_commands.py",
    "test_writers.py",
    "test_bad_commands.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first; the order within a file and of all others stays."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Let arrays of any shape through: to the checks that users meet, or where another test checks the same work."""
    # imported here, as the hook must come first
    from helpers.shapes import shapes_checked

    with shapes_checked(False):
        yield
