"""How much of a correlation length a box shows, by exact expectations, against fields that are drawn."""

import math

import pytest
import torch
from torch import Tensor

from softmode.formulas.finite_box import connected_in_box, length_in_box, length_of_field, oz_correlation
from softmode.observe.correlation import autocorrelation

TABLE = {2: (0.14, 0.14), 4: (0.30, 0.29), 6: (0.42, 0.39), 8: (0.51, 0.47), 12: (0.63, 0.58), 16: (0.69, 0.65),
         24: (0.76, 0.73), 48: (0.84, 0.82)}  # fmt: skip


def drawn(shape: tuple[int, ...], xi: float, count: int, seed: int = 0) -> Tensor:
    """Return periodic Gaussian fields [count, 1, *shape] of Ornstein and Zernike's spectrum."""
    axes = tuple(range(1, 1 + len(shape)))
    white = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    power = torch.fft.fftn(oz_correlation(shape, xi)).real
    return torch.fft.ifftn(power.sqrt() * torch.fft.fftn(white, dim=axes), dim=axes).real.unsqueeze(1)


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("shape", [(10,), (8, 8), (6, 10)])
def test_connected_correlations_are_those_of_drawn_fields(shape: tuple[int, ...], cropped: bool) -> None:
    """At every lattice vector within 4 standard errors; a crop is of a field around it."""
    count, around = 4000, tuple(8 * side for side in shape)
    x = drawn(around if cropped else shape, 2.0, count)
    x = x[(..., *(slice(0, side) for side in shape))]
    each = autocorrelation(x - x.mean(tuple(range(2, x.ndim)), keepdim=True))
    error = each.std(0) / math.sqrt(count)
    expected = connected_in_box(shape, 2.0, not cropped)
    # the field around is periodic itself, eight sides away
    assert bool(((each.mean(0) - expected).abs() < 4 * error + 1e-3).all())
    assert float(expected.sum()) == pytest.approx(0, abs=1e-9)


def test_the_table_is_what_the_page_says() -> None:
    for ratio, shown in TABLE.items():
        for periodic, share in zip((True, False), shown, strict=True):
            found = length_in_box((4 * ratio, 4 * ratio), 4.0, periodic) / 4
            assert found == pytest.approx(share, abs=0.011), ratio
    # in a box of no size in units of xi it is the box's own
    assert length_in_box((64, 64), 1e5) / 64 == pytest.approx(0.095, abs=0.01)


@pytest.mark.parametrize(("shape", "periodic"), [((16, 16), True), ((8, 64), True), ((40, 40), False), ((64,), True)])
def test_the_field_is_found_again(shape: tuple[int, ...], periodic: bool) -> None:
    """Of xi = 4 on 16x16, 8x64 and a crop of 40x40, which show 1.2, 1.7 and 2.1; beyond the box's own, any is."""
    shown = length_in_box(shape, 4.0, periodic)
    assert shown < 0.85 * 4
    assert length_of_field(shown, shape, periodic) == pytest.approx(4, rel=1e-3)
    assert length_of_field(float(min(shape)), shape, periodic) == math.inf
