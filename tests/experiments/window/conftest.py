from collections.abc import Iterator
from functools import partial

import pytest

from softmode import critical
from softmode.estimate import bootstrap
from softmode.experiments.clones import analyse as clones
from softmode.experiments.information import analyse as information
from softmode.experiments.instability import analyse as instability
from softmode.experiments.probe import locality
from softmode.experiments.window import decided, softness


@pytest.fixture(scope="package", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals and on simulated null models; those of xi_eq's peak are whole."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (critical, locality, clones, information, instability):
            patch.setattr(module, "bootstrap", partial(bootstrap, resamples=50))
        patch.setattr(decided, "bootstrap", partial(bootstrap, resamples=200))
        patch.setattr(softness, "NULLS", 19)
        yield
