"""Words for how long work takes."""

import pytest

from softmode.runs.progress import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (80.0, "80 s"), (120.0, "2 min"), (3600.0, "60 min"), (7200.0, "2 hours"), (3.6e5, "4 days")],
)
def test_times_are_told_in_a_unit_of_their_size(seconds: float, words: str) -> None:
    """At least two of each unit."""
    assert duration(seconds) == words
