"""What every refusal must be."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(match: str) -> Iterator[pytest.ExceptionInfo[ValueError]]:
    """Expect a ValueError whose message matches, in one line of at most 300 characters."""
    with pytest.raises(ValueError, match=match) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= 300, message
