"""Little time for intervals and simulated null models, which have tests of their own."""

from functools import partial

import pytest

from softmode import critical
from softmode.estimate import bootstrap, bootstrap_draws
from softmode.experiments.clones import analyse as clones
from softmode.experiments.equilibrium import lattice_stages
from softmode.experiments.information import analyse as information
from softmode.experiments.instability import analyse as instability
from softmode.experiments.probe import analyse as probe
from softmode.experiments.quench import found as quench
from softmode.experiments.susceptibility import adjoint_tables, adjoint_trials
from softmode.experiments.window import criteria, decided, softness
from softmode.experiments.window import measure as window
from softmode.experiments.window.quick import QUICK

# the parts of a first answer, and what is less in those of a full one
TINY_WINDOW = {"probe": {"steps": 14}, "known": {"levels": 8}, "soft": {"levels": 3}}
FEW_LEVELS = {"known": {"levels": 8}, "soft": {"levels": 3}}


def few_resamples(patch: pytest.MonkeyPatch) -> None:
    """Make bootstraps of 50 resamples, those of a window's ends of 200, and 19 null models."""
    for module in (critical, clones, information, instability, criteria, adjoint_tables, adjoint_trials):
        patch.setattr(module, "bootstrap", partial(bootstrap, resamples=50))
    patch.setattr(quench, "bootstrap_draws", partial(bootstrap_draws, resamples=50))
    # which takes a number of its own
    patch.setattr(probe, "bootstrap", lambda curves, statistic, resamples: bootstrap(curves, statistic, 50))
    patch.setattr(decided, "bootstrap", partial(bootstrap, resamples=200))
    patch.setattr(softness, "NULLS", 19)
    short_stages(patch)


def short_stages(patch: pytest.MonkeyPatch) -> None:
    """Make the stages of a lattice's equilibrium short: what they find is tested by itself."""
    patch.setattr(lattice_stages, "COARSE", 64)
    for stage, points, rounds in (("coarse", 6, 2), ("half", 3, 2), ("main", 3, 3)):
        patch.setitem(lattice_stages.POINTS, stage, points)
        patch.setitem(lattice_stages.ROUNDS, stage, rounds)
    patch.setattr(lattice_stages, "LEAST", 20)


def tiny_windows(patch: pytest.MonkeyPatch) -> None:
    """Make first answers of windows, `--quick`, of three states and few levels."""
    for part, settings in QUICK.items():
        patch.setitem(QUICK, part, settings | {"trajectories": 3} | TINY_WINDOW[part])


def few_levels(patch: pytest.MonkeyPatch) -> None:
    """Take few noise levels for what is known of the labels and for the softest modes of windows."""
    patch.setattr(window, "_quick", lambda config, part: QUICK[part] if config.quick else FEW_LEVELS.get(part, {}))
