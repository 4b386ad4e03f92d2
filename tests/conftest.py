"""Array shapes and types are checked in tests only: the hook must stand before softmode is first imported."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

jaxtyping.install_import_hook("softmode", "beartype.beartype")
torch.set_num_threads(1)
pytest.register_assert_rewrite("helpers")


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Let arrays of the wrong shape through to the checks that users meet; the import hook would stop them first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
