"""Little time for intervals and simulated null models, which have tests of their own."""

from functools import partial

import pytest

from softmode import critical
from softmode.estimate import bootstrap
from softmode.experiments.clones import analyse as clones
from softmode.experiments.information import analyse as information
from softmode.experiments.instability import analyse as instability
from softmode.experiments.probe import analyse as probe
from softmode.experiments.window import criteria, decided, softness
from softmode.experiments.window.quick import QUICK

# the parts of a first answer
TINY_WINDOW = {"probe": {"steps": 14}, "known": {"levels": 8}, "soft": {"levels": 3}}


def few_resamples(patch: pytest.MonkeyPatch) -> None:
    """Make bootstraps of 50 resamples, those of a window's ends of 200, and 19 null models."""
    for module in (critical, clones, information, instability, criteria):
        patch.setattr(module, "bootstrap", partial(bootstrap, resamples=50))
    # which takes a number of its own
    patch.setattr(probe, "bootstrap", lambda curves, statistic, resamples: bootstrap(curves, statistic, 50))
    patch.setattr(decided, "bootstrap", partial(bootstrap, resamples=200))
    patch.setattr(softness, "NULLS", 19)


def tiny_windows(patch: pytest.MonkeyPatch) -> None:
    """Make first answers of windows, `--quick`, of three states and few levels."""
    for part, settings in QUICK.items():
        patch.setitem(QUICK, part, settings | {"trajectories": 3} | TINY_WINDOW[part])
