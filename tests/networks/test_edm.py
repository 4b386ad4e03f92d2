"""EDM's networks give the official networks' numbers and are denoisers like any other."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import jvp

from helpers.formula import filled, waves
from helpers.models import assert_takes_labels_together
from helpers.pickles import official
from softmode.beta import Linear
from softmode.denoiser import Autocast
from softmode.networks.edm import EDM, NUMBERS, IDDPMScales, OwnScales, VEScales, VPScales, as_config
from softmode.networks.load import load_model
from softmode.process import VE, VP

SMALL: dict[str, Any] = {
    "img_resolution": 8, "img_channels": 2, "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1,
    "attn_resolutions": [4],
}  # fmt: skip
NCSN: dict[str, Any] = {
    "embedding_type": "fourier", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1], "encoder_type": "residual",
}  # fmt: skip
DDPM: dict[str, Any] = {"model_type": "SongUNet", "label_dim": 3, "label_dropout": 0.1, "augment_dim": 9}
# official class and arguments of small networks
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDPM++ by EDM": ("EDMPrecond", SMALL | DDPM),
    "DDPM++ by VP": ("VPPrecond", SMALL | {"channel_mult": [2, 1, 2], "num_blocks": 2}),
    "NCSN++ by VE": ("VEPrecond", SMALL | NCSN | {"label_dim": 3}),
    "NCSN++ with skips by VE": ("VEPrecond", SMALL | NCSN | {"encoder_type": "skip", "decoder_type": "skip"}),
    "ADM by EDM": ("EDMPrecond", SMALL | {"channel_mult": [8, 16], "label_dim": 3, "sigma_data": 0.7}),
    "ADM by iDDPM": ("iDDPMPrecond", SMALL | {"model_channels": 64, "attn_resolutions": [8], "label_dim": 3}),
}  # fmt: skip
STATES = 2 * waves((2, 2, 8, 8), 0.5)


def made(name: str) -> EDM:
    """Return one of the networks in float64, of weights by a formula."""
    network = EDM(as_config(*NETWORKS[name])).double().eval().requires_grad_(False)
    network.load_state_dict(filled(network.state_dict()))
    return network


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("DDPM++ by EDM", None,
         [0.07106068752, 1.117337125, 0.2842961712, -0.3131704622, -0.0539454626, -0.7246403603]),
        ("DDPM++ by EDM", 1, [0.07059974989, 1.133020694, 0.2201612962, -0.2422948118, -0.07741594118, -0.6272601847]),
        ("DDPM++ by VP", None, [0.0560844498, 1.997793171, 1.085420415, -0.980445015, -2.262717371, 0.1875272992]),
        ("NCSN++ by VE", None, [0.2298225292, 3.306330123, 0.6174440006, -0.4927223838, -0.09294622659, 0.8301947959]),
        ("NCSN++ by VE", 1, [0.2243441775, 3.289602606, 0.6200747784, -0.4922369876, -0.1821139773, 0.9292287215]),
        ("NCSN++ with skips by VE", None,
         [-0.0762462528, 3.581814392, 0.4133522315, 0.8367615238, -0.4013080375, -4.687915035]),
        ("ADM by EDM", None, [0.1805092287, 1.276945879, 0.8345098638, -0.4757090729, -3.315672702, 0.3943538499]),
        ("ADM by EDM", 1, [0.1747897669, 1.251589088, 0.8673943854, -0.514269588, -3.256734879, 0.6560303856]),
        ("ADM by iDDPM", None, [-0.1815873483, 2.360805491, 0.7853702932, -0.1769233517, 4.570596205, -4.395653038]),
        ("ADM by iDDPM", 1, [-0.1803308692, 2.409893619, 0.8024726967, -0.2063848672, 4.649083573, -4.608402572]),
    ],
)  # fmt: skip
def test_the_official_network_gives_these_numbers(name: str, label: int | None, expected: list[float]) -> None:
    """Mean, deviation and four entries of D by training/networks.py of NVlabs/edm, with float64 for its float32."""
    d = made(name)(STATES, torch.tensor([0.3, 2.0], dtype=torch.float64), label)
    found = [d.mean(), d.std(), d[0, 0, 0, 0], d[0, -1, 3, 5], d[1, 0, 7, 2], d[1, -1, 4, 4]]
    assert [float(value) for value in found] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pickle_becomes_a_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its classes and noise levels, and the denoiser of the weights that were pickled, in half precision."""
    network = made(name).half().float()
    if isinstance(scales := network.config.scales, IDDPMScales):
        network.u = scales.table().half().float()
    class_name, arguments = NETWORKS[name]
    path = tmp_path / "net.pkl"
    path.write_bytes(official(network, class_name, {"use_fp16": True, "dropout": 0.1, **arguments}, monkeypatch))
    network.float()
    model = load_model(f"edm:{path}")
    assert (model.shape, model.classes, model.process) == ((2, 8, 8), arguments.get("label_dim", 0), VE())
    assert model.levels == network.levels()
    assert set(model.inputs) == {"weights"}
    x = STATES.float()
    label = 1 if model.classes else None
    assert torch.equal(model.denoiser(label)(x, 0.7), network(x, 0.7, label))
    if model.classes:
        assert_takes_labels_together(model, [1, 0, 1])
    if model.classes and not arguments.get("label_dropout"):
        with pytest.raises(ValueError, match="labels: this network was always shown its images' classes; name some of"):
            model.denoiser()
    else:
        assert torch.equal(model.denoiser()(x, 0.7), network(x, 0.7))
    with pytest.raises(ValueError, match=r"shape: got \(1, 8, 8\); expected \(2, 8, 8\)"):
        load_model(f"edm:{path}", shape=(1, 8, 8))


def test_networks_say_which_noise_levels_they_know() -> None:
    """Those of karras2022's Table 1: sigma(1e-5) and sigma(1) of VP; 0.02 and 100 of VE; iDDPM's table."""
    assert made("DDPM++ by EDM").levels() is None
    assert EDM(as_config("EDMPrecond", SMALL | {"sigma_min": 0.01, "sigma_max": 5})).levels() == (0.01, 5.0)
    assert made("NCSN++ by VE").levels() == (0.02, 100.0)
    process = VP(Linear(0.1, 20.0))
    expected = [float(process.noise_level(t)) for t in (1e-5, 1.0)]
    assert made("DDPM++ by VP").levels() == pytest.approx(expected, rel=1e-9)
    # of the official class, to the last digit of its float32
    assert made("ADM by iDDPM").levels() == pytest.approx((0.00642541, 20291.17), rel=1e-4)


def test_the_time_of_vp_is_that_of_its_process() -> None:
    """999 t, with t from the exact inverse, down to noise levels of which 1 + sigma^2 keeps no digit in float32."""
    sigma = torch.tensor([0.001, 0.3, 7.0, 150.0], dtype=torch.float64)
    found = VPScales().scales(sigma).noise
    torch.testing.assert_close(found, 999 * VP(Linear(0.1, 20.0)).time(sigma), rtol=1e-12, atol=0)


def test_the_table_of_iddpm_follows_its_recursion() -> None:
    r"""$u_{j-1}^2 = (u_j^2 + 1)/\max(\bar\alpha_{j-1}/\bar\alpha_j, C_1) - 1$ (karras2022, Table 1), step by step."""
    steps, found = 50, IDDPMScales(M=50).table()
    levels = [0.0]
    for j in range(steps, 0, -1):
        below, own = (math.sin(math.pi / 2 * i / steps / 1.008) ** 2 for i in (j - 1, j))
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(below / own, 0.001) - 1))
    assert found.tolist() == pytest.approx(levels[::-1], rel=1e-9)


def test_iddpm_is_told_the_nearest_level_of_its_table_and_keeps_its_own() -> None:
    """The network's time is a step, and D goes on smoothly within it: D = x - sigma F."""
    table = IDDPMScales().table()
    places = torch.tensor([3, 500, 999])
    near = IDDPMScales().scales(table[places] * 1.0001, table)
    assert near.noise.tolist() == [996.0, 499.0, 0.0]
    torch.testing.assert_close(near.out, -table[places] * 1.0001)


@pytest.mark.parametrize("scales", [OwnScales(), VPScales(), VEScales()], ids=lambda each: type(each).__name__)
def test_at_no_noise_the_state_is_the_answer(scales: Any) -> None:
    """c_skip to 1 and c_out to 0 as sigma; D of EDM's own forgets the state far above the data."""
    low = scales.scales(torch.tensor([1e-6], dtype=torch.float64))
    assert float(low.skip) == pytest.approx(1.0, abs=1e-9)
    assert abs(float(low.out)) == pytest.approx(1e-6, rel=1e-3)
    high = OwnScales().scales(torch.tensor([1e6], dtype=torch.float64))
    assert (float(high.skip), float(high.out)) == pytest.approx((0.0, 0.5), abs=1e-6)


@pytest.mark.parametrize("name", ["NCSN++ by VE", "ADM by EDM"])
def test_forward_derivatives_agree_with_differences(name: str) -> None:
    """In float64, along a direction, through attention, filters and both kinds of blocks."""
    network, v = made(name), waves(tuple(STATES.shape), 1.0)

    def field(x: Tensor) -> Tensor:
        return network(x, 0.7, 1)

    _, derivative = jvp(field, (STATES,), (v,))
    step = 1e-6
    difference = (field(STATES + step * v) - field(STATES - step * v)) / (2 * step)
    assert float((derivative - difference).abs().max()) < 1e-6 * float(derivative.abs().max())


def test_precision_of_the_unet_is_chosen_apart_from_the_states() -> None:
    """Float32 agrees with float64 to rounding; bfloat16 inside gives float32 states, near them."""
    network, exact = made("DDPM++ by EDM").float(), made("DDPM++ by EDM")(STATES, 0.7, 2)
    x = STATES.float()
    assert float((network(x, 0.7, 2) - exact).abs().max()) < 1e-5
    rough = Autocast(partial(network, label=2), torch.bfloat16)(x, 0.7)
    assert rough.dtype == torch.float32
    assert 1e-4 < float((rough - exact).abs().max()) < 0.1


@pytest.mark.parametrize(
    ("class_name", "arguments", "millions"),
    [
        ("EDMPrecond", {"model_type": "SongUNet", "channel_mult": [2, 2, 2], "augment_dim": 9}, 55.7),
        ("VEPrecond", {"channel_mult": [2, 2, 2], "augment_dim": 9, **NCSN}, 56.4),
        ("EDMPrecond", {"img_resolution": 64, "label_dim": 1000}, 295.9),
    ],
)
def test_published_networks_have_their_number_of_parameters(
    class_name: str, arguments: dict[str, Any], millions: float
) -> None:
    """DDPM++ and NCSN++ of CIFAR-10, ADM of ImageNet-64: millions, as the official classes have them."""
    with torch.device("meta"):
        network = EDM(as_config(class_name, {"img_resolution": 32, "img_channels": 3, **arguments}))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("class_name", "changes", "words"),
    [
        ("EDMPrecond", {"img_resolution": 9}, "img_resolution: got 9; expected a multiple of 2"),
        ("EDMPrecond", {"model_type": "VGG"}, "model_type: got 'VGG'; expected SongUNet or DhariwalUNet"),
        ("EDMPrecond", {"embedding_type": "fourier"}, "not known: .'embedding_type'"),
        ("EDMPrecond", {"sigma_min": 3, "sigma_max": 2}, "sigma_max: got 2; expected more than sigma_min"),
        ("EDMPrecond", {"beta_d": 3}, "not known: .'beta_d'"),
        ("EDMPrecond", {"sigma_data": math.nan}, "sigma_data: got nan; expected a number"),
        ("VPPrecond", {"M": 10**9}, "M: got 1000000000; expected a whole number from 2"),
        ("VPPrecond", {"resample_filter": [1, 2, 1]}, "resample_filter: got .*; expected an even number of taps"),
        ("VPPrecond", {"encoder_type": ["skip"]}, "encoder_type: got .*; expected standard or skip or residual"),
        ("VPPrecond", {"num_blocks": 10**5}, "num_blocks: got 100000; expected a whole number from 1 to 16"),
        ("VPPrecond", {"channel_mult": [-1, 2]}, "channel_mult: got -1"),
        ("VPPrecond", {"label_dim": "3"}, "label_dim: got '3'"),
    ],
)
def test_impossible_shapes_are_refused(class_name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        as_config(class_name, SMALL | changes)
    assert len(str(error.value)) <= 300


ABSURD: list[Any] = [
    -1, 0.5, True, 2**62, 10**400, math.inf, -math.inf, math.nan, "12", "", "x" * 10**5, None, [], {}, [-1, 2],
    [1, 200], [2**62, 2**62], "\n\x1b[31m", [[[[[1]]]]], {"a": [None]}, [8] * 10**5,
]  # fmt: skip


# of these, what a network may have
POSSIBLE: dict[str, list[Any]] = {
    **{name: [0.5] for name in NUMBERS}, "label_dropout": [0.5], "sigma_max": [0.5, math.inf],
    "attn_resolutions": [[], [1, 200]], "resample_filter": [[1, 200]],
}  # fmt: skip


@pytest.mark.parametrize("class_name", ["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_absurd_arguments_are_refused_in_one_line(class_name: str) -> None:
    """Each argument that a class takes, and one that it does not; no network is built of them."""
    given = SMALL | {"model_type": "SongUNet"}
    config = as_config(class_name, given)
    for name in (*vars(config.scales), *vars(config.unet), "surprise", "\n\x1b[31m" + "x" * 10**5):
        for value in ABSURD:
            if value in POSSIBLE.get(name, []):
                continue
            with pytest.raises(ValueError, match=r"\w") as error:
                as_config(class_name, given | {name: value})
            assert len(str(error.value)) <= 300
            assert str(error.value).isprintable()


def test_widths_that_norms_cannot_divide_are_refused() -> None:
    """Before any memory is taken: 132 channels are no multiple of 32 groups."""
    with torch.device("meta"), pytest.raises(ValueError, match="model_channels: got 132 channels in a layer"):
        EDM(as_config("VPPrecond", SMALL | {"model_channels": 132}))
