"""Remarks on the box of a probe: none on a wide periodic one, what is short, and what is no lattice."""

from typing import Any

import pytest
import torch
from torch import Tensor

import softmode as sm
from softmode.formulas.finite_box import oz_correlation
from softmode.runs.geometry import geometry_notes
from softmode.runs.run import Run

SETTINGS: dict[str, Any] = {"trajectories": 6, "steps": 12, "shells": 3, "block": 6, "snapshots": (0.02, 1.0)}


def field(shape: tuple[int, ...], xi: float) -> sm.GaussianDenoiser:
    """Return the exact denoiser of a periodic field of unit variance."""
    power = torch.fft.fftn(oz_correlation(shape, xi)).real
    return sm.GaussianDenoiser(power / power.mean(), torch.zeros(1, *shape))


class Crop:
    """The exact denoiser of a square cut out of a large field."""

    def __init__(self, side: int, xi: float) -> None:
        around = oz_correlation((4 * side, 4 * side), xi)
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        y, x = y.flatten(), x.flatten()
        covariance = around[y[:, None] - y, x[:, None] - x] / around[0, 0]
        self.variances, self.modes = (each.float() for each in torch.linalg.eigh(covariance))

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        gains = self.variances / (self.variances + torch.as_tensor(sigma).double().square())
        return (((x.flatten(1) @ self.modes) * gains) @ self.modes.T).to(x.dtype).reshape(x.shape)


def notes(denoiser: Any, shape: tuple[int, ...]) -> tuple[Run, list[str]]:
    """Return a tiny probe and its remarks on the box."""
    run = sm.probe(denoiser, shape=(1, *shape), **SETTINGS)
    found = geometry_notes(run)
    assert set(found) <= set(run.results.notes)
    return run, found


@pytest.mark.filterwarnings("ignore::softmode.soundness.UnsoundWarning")
@pytest.mark.parametrize(("shape", "xi"), [((32, 32), 1.0), ((32, 32), 0.2), ((8, 8), 0.2)])
def test_a_wide_periodic_box_needs_no_remark(shape: tuple[int, ...], xi: float) -> None:
    """Nor do fields without correlations on few sites, whose length is one of noise."""
    assert notes(field(shape, xi), shape)[1] == []


@pytest.mark.filterwarnings("ignore::softmode.soundness.UnsoundWarning")
@pytest.mark.parametrize("shape", [(16, 16), (8, 64)])
def test_a_box_that_is_short_of_xi_is_remarked_upon(shape: tuple[int, ...]) -> None:
    """Of xi = 4, which lies in what the remark says the field is of; it is periodic."""
    run, found = notes(field(shape, 4.0), shape)
    *sides, only = found
    assert bool(sides) == (len(set(shape)) > 1)
    assert only.startswith("the box is short of the correlation length from sigma/alpha = ")
    assert f"on a shortest side of {min(shape)}, as of a field of" in only
    assert float(run.dataset["xi_moment"][:, -1].mean()) < 3


@pytest.mark.filterwarnings("ignore::softmode.soundness.UnsoundWarning")
def test_a_crop_is_no_lattice() -> None:
    """Along both axes; the length is judged as that of a crop."""
    found = notes(Crop(24, 4.0), (24, 24))[1]
    edges = [each for each in found if "samples are not periodic" in each]
    assert [each.partition(" along their ")[2][:6] for each in edges] == ["height", "width "]
    assert all("neighbours across the border differ" in each for each in edges)
