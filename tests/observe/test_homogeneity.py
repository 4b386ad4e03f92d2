"""The test of shifts: exact on what is periodic, and it sees crops and margins."""

import numpy as np
import pytest
import torch
from torch import Tensor

import softmode as sm
from softmode.networks.load import load_model
from softmode.observe.homogeneity import SURE, neighbours, seam


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Return periodic fields, each the mean of its neighbours' noise."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for axis in range(2, x.ndim):
        x = sum(x.roll(shift, axis) for shift in range(-3, 4)) / 7
    return x


@pytest.mark.parametrize("kind", ["smooth", "patches"])
def test_p_is_uniform_on_periodic_fields(kind: str) -> None:
    """Their mean over many sets is 1/2 within 4 standard errors; hardly any is small, whatever the law is."""
    if kind == "smooth":
        x = smooth(60 * 5, 1, 12, 12)
    else:
        noise, process, sampler = sm.TrajectoryNoise(0, range(300), torch.device("cpu")), sm.VP(), sm.EulerMaruyama()
        times = sampler.grid(process, 6.0, 0.05, 60)
        start = sm.initial_state(process, 6.0, noise, (1, 12, 12), torch.float32)
        x = sm.simulate(sm.TwoStatePatch(sm.ReceptiveField.box(3)), process, start, times, noise, sampler=sampler).state
    found = np.array([seam(part, axis)[:2] for part in x.split(5) for axis in (0, 1)])
    assert np.abs(found.mean(0) - 0.5).max() < 4 * np.sqrt(1 / 12 / 60)
    assert (found < 0.01).mean() < 0.05


def test_crops_and_margins_are_seen() -> None:
    """A crop by its border, in either axis alone; margins by places that differ, no jump among them."""
    field = smooth(5, 1, 48, 24)
    cropped, whole = (seam(field[..., :24, :], axis) for axis in (0, 1))
    assert cropped.border < SURE
    assert cropped.across > 2 > cropped.highest
    assert min(whole[:2]) > 0.01
    framed = torch.nn.functional.pad(smooth(5, 1, 16, 16), (4, 4, 4, 4))
    assert min(seam(framed, 0).places, seam(framed, 1).places) < SURE
    assert seam(framed, 0).across < 1e-9


def test_few_states_tell_nothing() -> None:
    """Two of 24 sites have 24 shifts against each other: no p could be small."""
    found = seam(smooth(2, 1, 24, 24), 0)
    assert np.isnan(found.border)
    assert found.across > 0


def test_clothes_have_margins_and_are_no_crop() -> None:
    """The images of Fashion-MNIST are black at both sides, and neighbours differ most inside."""
    found = seam(load_model("fashion-mnist").held_out()[:32], 1)
    assert found.places < SURE
    assert found.across < 0.5


def test_neighbours_are_those_of_each_place() -> None:
    """A step of 2 between the third and the fourth of five sites, and across the border."""
    x = torch.tensor([0.0, 0, 0, 2, 2]).expand(1, 1, 3, 5)
    assert neighbours(x, 1).tolist() == [[0, 0, 4, 0, 4]]
    assert neighbours(x, 0).tolist() == [[0, 0, 0]]
