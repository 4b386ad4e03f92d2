"""EDM2's network gives the official network's numbers and is a denoiser like any other."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import jvp

from softmode.denoiser import Autocast
from softmode.networks.edm2 import EDM2, EDM2Config, mp_cat, mp_silu, mp_sum, normalise

LABELLED = EDM2Config(8, 3, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,),
                      channels_per_head=8)  # fmt: skip
PLAIN = EDM2Config(8, 2, 0, model_channels=8, channel_mult=(1, 2, 3), channel_mult_noise=2, channel_mult_emb=2,
                   num_blocks=2, attn_resolutions=(8, 2), channels_per_head=4, res_balance=0.4, attn_balance=0.2,
                   concat_balance=0.3, clip_act=2.0, sigma_data=1.0)  # fmt: skip


def seeded(config: EDM2Config) -> EDM2:
    """Return a network whose tensors, in the order of their names, are normal numbers of seeds 0, 1, ..."""
    network = EDM2(config).eval().requires_grad_(False)
    state = network.state_dict()
    for place, name in enumerate(sorted(state)):
        state[name] = torch.randn(state[name].shape, generator=torch.Generator().manual_seed(place))
    network.load_state_dict(state)
    return network


def states(config: EDM2Config) -> Tensor:
    return torch.randn(2, config.img_channels, 8, 8, generator=torch.Generator().manual_seed(99))


@pytest.mark.parametrize(
    ("config", "label", "expected"),
    [
        (LABELLED, None, [0.01470159, 0.7323518, 0.5033534, 0.9547647, -0.2277405, -0.004594691]),
        (LABELLED, 3, [-0.001907141, 0.725767, 0.5469416, 0.999043, -0.2611204, -0.158897]),
        (PLAIN, None, [-0.0388736, 0.7495476, 0.2495517, 0.7828743, -0.03403767, 0.2185909]),
    ],
)
def test_the_official_network_gives_these_numbers(config: EDM2Config, label: int | None, expected: list[float]) -> None:
    """Mean, deviation and four entries of the official code's output for the same weights and states."""
    d = seeded(config)(states(config), torch.tensor([0.3, 2.0]), label)
    found = [d.mean(), d.std(), d[0, 0, 0, 0], d[0, -1, 3, 5], d[1, 0, 7, 2], d[1, -1, 4, 4]]
    assert [float(value) for value in found] == pytest.approx(expected, abs=5e-6)


def test_parts_preserve_magnitude() -> None:
    """Independent normal numbers keep unit mean square through every part, to 1 %."""
    a, b = torch.randn(2, 64, 100, 100, generator=torch.Generator().manual_seed(0)).double().unbind(0)
    a, b = a[None], b[None]
    for out in (mp_silu(a), mp_sum(a, b, 0.3), mp_cat(a, b[:, :16], 0.5), normalise(3 * a, 1)):
        assert float(out.square().mean()) == pytest.approx(1.0, abs=0.01)
    joined = mp_cat(a, b[:, :16], 0.3)
    assert float(joined[:, :64].square().sum() / joined[:, 64:].square().sum()) == pytest.approx((0.7 / 0.3) ** 2, 0.02)


def test_precision_of_the_unet_is_chosen_apart_from_the_states() -> None:
    """Float64 throughout agrees with float32 to rounding; bfloat16 inside gives float32 states, near them."""
    network, x = seeded(LABELLED), states(LABELLED)
    exact = seeded(LABELLED).double()(x.double(), 0.7, 2)
    assert exact.dtype == torch.float64
    assert float((network(x, 0.7, 2) - exact).abs().max()) < 2e-5
    rough = Autocast(partial(network, label=2), torch.bfloat16)(x, 0.7)
    assert rough.dtype == torch.float32
    assert 1e-5 < float((rough - exact).abs().max()) < 0.1


def test_forward_derivatives_agree_with_differences() -> None:
    """In float64, along a random direction, through attention and pixel norm."""
    network, x = seeded(LABELLED).double(), states(LABELLED).double()
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    _, derivative = jvp(lambda y: network(y, 0.7, 1), (x,), (v,))
    step = 1e-6
    difference = (network(x + step * v, 0.7, 1) - network(x - step * v, 0.7, 1)) / (2 * step)
    assert float((derivative - difference).abs().max()) < 1e-6 * float(derivative.abs().max())


def test_published_sizes_have_their_published_numbers_of_parameters() -> None:
    """Millions of parameters as published (karras2024): XS 125, S 280, M 498, L 777, XL 1119, XXL 1523."""
    for width, millions in ((128, 125), (192, 280), (256, 498), (320, 777), (384, 1119), (448, 1523)):
        with torch.device("meta"):
            network = EDM2(EDM2Config(64, 4, 1000, model_channels=width))
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=1.0)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="img_resolution: got 12; expected a multiple of 8"):
        EDM2Config(12, 3, 0)
    with pytest.raises(ValueError, match="img_channels: got 0; expected a whole number from 1 to 1024"):
        EDM2Config(8, 0, 0)


def test_far_above_the_data_the_answer_forgets_the_state() -> None:
    """c_skip falls as sigma_data^2 / sigma^2 (karras2022, Table 1)."""
    network, x = seeded(LABELLED), states(LABELLED)
    far = network(1e4 * x, 1e4)
    assert float(far.abs().max()) < 10 * math.sqrt(3)
