"""The measures of a soft sector's couplings against closed forms and scans over directions."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from helpers.random import normal
from softmode.formulas.couplings import commutation_defect, departure, extremes, isotropic_part


def symmetric(tensor: Tensor) -> Tensor:
    """Return the part of a tensor of four indices that is symmetric in all of them."""
    found = torch.zeros_like(tensor)
    for order in permutations(range(4)):
        found += tensor.permute(*order)
    return found / 24


def of_vectors(vectors: Tensor, weights: Tensor) -> Tensor:
    """Return sum_i w_i v_i v_i v_i v_i."""
    return torch.einsum("i,ia,ib,ic,id->abcd", weights, vectors, vectors, vectors, vectors)


def test_matrices_with_the_same_modes_commute() -> None:
    """Whatever their eigenvalues; the defect is 1 for two reflections at 45 degrees, and unknown for one number."""
    turn = torch.linalg.qr(normal(4, 4))[0]
    first, second = (turn @ torch.diag(each) @ turn.T for each in normal(2, 4))
    assert float(commutation_defect(first, second)) < 1e-12
    z, x = torch.diag(torch.tensor([1.0, -1.0])).double(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    assert float(commutation_defect(z + 3 * torch.eye(2), x)) == pytest.approx(1)
    assert math.isnan(float(commutation_defect(torch.eye(3).double(), first[:3, :3])))
    assert math.isnan(float(commutation_defect(torch.ones(1, 1).double(), torch.ones(1, 1).double())))


@pytest.mark.parametrize("angle", [0.1, 0.4, math.pi / 4])
def test_the_defect_of_two_components_is_the_sine_of_twice_the_angle(angle: float) -> None:
    """Between the modes of M and those of K."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    mass = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    stiffness = turn @ torch.diag(torch.tensor([5.0, 1.0], dtype=torch.float64)) @ turn.T
    assert float(commutation_defect(mass, stiffness)) == pytest.approx(math.sin(2 * angle))


def test_extremes_are_those_of_a_scan() -> None:
    """Over all angles of two components, for tensors of either sign, a batch at a time."""
    tensors = torch.stack([symmetric(each) for each in normal(5, 2, 2, 2, 2)])
    low, high = extremes(tensors)
    angle = torch.linspace(0, math.pi, 20001, dtype=torch.float64)
    q = torch.stack([angle.cos(), angle.sin()], 1)
    values = torch.einsum("zabcd,sa,sb,sc,sd->zs", tensors, q, q, q, q)
    torch.testing.assert_close(low, values.amin(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(high, values.amax(1), rtol=1e-4, atol=1e-6)


def test_extremes_of_orthogonal_vectors_are_their_weights() -> None:
    """The largest weight of either sign; with positive ones alone the least is their harmonic sum's inverse."""
    vectors = torch.linalg.qr(normal(4, 4))[0]
    low, high = extremes(of_vectors(vectors, torch.tensor([3.0, -2.0, 1.0, -0.5], dtype=torch.float64)))
    assert (float(low), float(high)) == pytest.approx((-2, 3))
    weights = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    low, high = extremes(of_vectors(vectors, weights))
    assert (float(low), float(high)) == pytest.approx((1 / float((1 / weights).sum()), 3))


def test_the_isotropic_form_is_no_departure() -> None:
    """Its value is the same in all directions; the nearest multiple is a projection."""
    form = isotropic_part(torch.ones(3, 3, 3, 3, dtype=torch.float64))
    assert float(departure(form)) < 1e-12
    low, high = extremes(form)
    assert float(low) == pytest.approx(float(high))
    tensor = symmetric(normal(3, 3, 3, 3))
    part = isotropic_part(tensor)
    torch.testing.assert_close(isotropic_part(part), part)
    assert float(((tensor - part) * part).sum()) == pytest.approx(0, abs=1e-10)
    cubic = of_vectors(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    # x^4 + y^4 = 3/4 (x^2 + y^2)^2 + cos(4 phi)/4, of norms sqrt(2), sqrt(3/2) and sqrt(1/2)
    assert float(departure(cubic)) == pytest.approx(0.5)
    assert float(departure(torch.full((1, 1, 1, 1), -2.0, dtype=torch.float64))) < 1e-12
