from collections.abc import Iterator
from functools import partial

import pytest

from softmode import critical
from softmode.estimate import bootstrap
from softmode.experiments.clones import analyse as clones
from softmode.experiments.probe import locality


@pytest.fixture(scope="package", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals of the probe and the clones; the window's own are whole."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (critical, locality, clones):
            patch.setattr(module, "bootstrap", partial(bootstrap, resamples=50))
        yield
