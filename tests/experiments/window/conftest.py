from collections.abc import Iterator

import pytest

from helpers import resamples


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals and on simulated null models; those of xi_eq's peak are whole."""
    with pytest.MonkeyPatch.context() as patch:
        resamples.few_resamples(patch)
        yield
