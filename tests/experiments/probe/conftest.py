from collections.abc import Iterator
from functools import partial

import pytest

from softmode import critical
from softmode.estimate import bootstrap
from softmode.experiments.probe import locality


@pytest.fixture(scope="package", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (critical, locality):
            patch.setattr(module, "bootstrap", partial(bootstrap, resamples=50))
        yield
