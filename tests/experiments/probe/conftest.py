"""Little time on intervals, and runs of exact models that the tests of figures share."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch

from helpers.runs import run as run_of
from softmode import critical
from softmode.data import Images
from softmode.denoiser import Denoiser
from softmode.estimate import bootstrap
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.patch import TwoStatePatch
from softmode.lattice import Lattice, ReceptiveField
from softmode.model import Model
from softmode.process import VE, VP
from softmode.runs.run import Run

TINY = {"t_max": 5.0, "t_min": 0.02, "steps": 96, "measure_every": 8, "shells": 3, "snapshots": (4.0, 1.0, 0.1)}
CONFIGS = {
    "reverse": TINY | {"trajectories": 3},
    "forward": TINY | {"trajectories": 4, "states": "forward"},
    "line": TINY | {"trajectories": 1},
    "cube": TINY | {"trajectories": 1},
    "colour": TINY | {"trajectories": 1, "t_max": 20.0},
}
SHAPES = {"line": (2, 16), "cube": (1, 7, 7, 7), "colour": (3, 8, 8)}


def fields(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).sign()


def model(name: str) -> Model:
    """Return an exact model: with the null model on a square, without it in other dimensions and colour."""
    if name in SHAPES:
        exact: Denoiser = EmpiricalDenoiser(fields(5, *SHAPES[name]))
        return Model(name, VE() if name == "colour" else VP(), SHAPES[name], lambda _label: exact)
    spectrum = 3 / (0.4 + Lattice((8, 8)).wave_vectors().square().sum(-1))
    if name == "reverse":
        exact = TwoStatePatch(ReceptiveField.box(3))
    else:
        # answers more than any exact score at high noise, and less at low
        def exact(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
            return 0.5 * x

    pixels = (255 * (fields(9, 1, 8, 8) > 0)).to(torch.uint8)
    images = Images(pixels, torch.zeros(9).long(), "binary")
    return Model(
        name, VP(), (1, 8, 8), lambda _label: exact, binary=True, images=images,
        spectrum=spectrum[None].float(), mean=torch.zeros(1, 1, 8, 8),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critical, "bootstrap", partial(bootstrap, resamples=50))
        yield


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return a run of each config, as figures show them."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critical, "bootstrap", partial(bootstrap, resamples=50))
        return {name: run_of("probe", folder / name, model=model(name), **config) for name, config in CONFIGS.items()}
