"""What the attention experiment finds in networks whose couplings are known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import softmode as sm
from helpers.errors import refused
from helpers.models import ornstein_zernike, small_network
from helpers.random import generator, normal
from softmode.exact.wiener import stationary_covariance, wiener
from softmode.experiments.attention.analyse import mean_of
from softmode.experiments.attention.apart import apart, sources
from softmode.experiments.attention.config import Config
from softmode.experiments.attention.inputs import check_dense
from softmode.experiments.attention.measure import prepare
from softmode.experiments.attention.networks import BOTH, FROZEN, NORMS, NULL, WHOLE
from softmode.experiments.attention.null import Null
from softmode.experiments.attention.verdict import verdict
from softmode.observe.nonlocality import displacements
from softmode.observe.softest import softest_modes
from softmode.process import VE

SIDE = 12


class Linear(nn.Module):
    """D = A x, beside a norm that adds nothing and so can be taken out."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.norm = nn.GroupNorm(1, 1)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return [batch, 1, y, x]."""
        return (x.flatten(1) @ self.matrix.to(x).T).reshape(x.shape) + 0.0 * self.norm(x)


class Convolutions(nn.Module):
    """Two convolutions of 3x3 that reach two sites along an axis, with a norm between them or none."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.GroupNorm(2, 8) if norm else nn.Identity()
        self.enter, self.leave = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return [batch, 1, y, x]."""
        return self.leave(torch.nn.functional.silu(self.norm(self.enter(x))))


def model(network: Any, **known: Any) -> sm.Model:
    return sm.Model("made", VE(), (1, SIDE, SIDE), lambda label: network, **known)


def data(folder: Path, root: Tensor, count: int = 200) -> str:
    """Write samples of a Gaussian field with covariance root root^T, and return the file's name."""
    fields = (normal(count, SIDE**2, seed=3) @ root.T).reshape(count, 1, SIDE, SIDE)
    np.savez(folder / "data.npz", images=fields.float().numpy())
    return str(folder / "data.npz")


def field(power_law: bool) -> Tensor:
    """Return the root of the covariance of a nearly critical field, the same everywhere or brighter in the middle."""
    root = torch.linalg.cholesky(stationary_covariance(ornstein_zernike(SIDE, SIDE, mass=0.05)))
    away = (torch.arange(SIDE) - SIDE / 2).abs()
    bright = torch.exp(-(away[:, None] ** 2 + away**2) / 20).flatten().double()
    return root if power_law else bright[:, None] * root


@pytest.mark.parametrize("power_law", [True, False], ids=["power law", "brighter in the middle"])
def test_a_linear_denoiser_has_no_long_range_finding(power_law: bool, tmp_path: Path) -> None:
    """Of low rank and long range, and of a field that is not the same everywhere: nothing is beyond the Wiener null."""
    root = field(power_law)
    network = Linear(wiener(root @ root.T, 1.5))
    run = sm.attention(model(network), data=data(tmp_path, root), trajectories=2, sigma=(1.5,))
    assert run.results.values["verdicts"] == ["none"]
    assert np.isnan(run.dataset["gamma"].to_numpy()).all()
    share = run.results["far_1"].estimate.value
    assert share < 1e-9 if power_law else share > 1e-3


def test_what_rounding_could_have_made_is_no_finding(tmp_path: Path) -> None:
    """A coupling of 1e-5 beside gains of 1, where the data have too few images for more than their spectrum."""
    spectrum = ornstein_zernike(SIDE, SIDE, mass=0.05)
    u = torch.linalg.qr(normal(SIDE**2, 1, seed=6)).Q[:, 0]
    known = {"spectrum": spectrum[None].float(), "mean": torch.zeros(1, 1, SIDE, SIDE)}
    path = data(tmp_path, field(True), count=4)
    for strength, word in ((1e-5, "none"), (1e-2, "Mattis-like")):
        network = Linear(wiener(stationary_covariance(spectrum), 1.5) + strength * torch.outer(u, u))
        run = sm.attention(model(network, **known), data=path, trajectories=2, sigma=(1.5,))
        assert run.results.values["verdicts"] == [word]
        assert (run.dataset["null_edge"].to_numpy() == 0).all()


@pytest.mark.parametrize("signs", [(1, -1), (-1, -1)])
def test_a_planted_coupling_is_found_beyond_the_null(signs: tuple[int, int], tmp_path: Path) -> None:
    """Two modes with their signs and vectors on top of the field's own linear denoiser."""
    root = field(False)
    u, v = torch.linalg.qr(normal(SIDE**2, 2, seed=6)).Q.T
    planted = signs[0] * torch.outer(u, u) + 0.9 * signs[1] * torch.outer(v, v)
    network = Linear(wiener(root @ root.T, 1.5) + planted)
    run = sm.attention(model(network), data=data(tmp_path, root), trajectories=2, sigma=(1.5,))
    assert run.results.values["verdicts"] == ["Hopfield-like"]
    gamma, modes = run.dataset["gamma"].to_numpy()[0, 0, 0], run.dataset["mode"].to_numpy()[0, 0]
    assert np.isfinite(gamma).sum() == 2
    np.testing.assert_allclose(gamma[:2], [signs[0], 0.9 * signs[1]], rtol=0.1)
    for mode, one in zip(modes, (u, v), strict=False):
        assert abs(float(mode.flatten() @ one.numpy())) > 0.98


def test_norms_are_a_global_channel_of_convolutions() -> None:
    """Beyond what two convolutions reach, everything goes through the norm; within it, what they reach is left."""
    images = sm.Images(torch.randint(256, (12, 1, SIDE, SIDE), generator=generator()).to(torch.uint8),
                       torch.zeros(12, dtype=torch.long), "grey")  # fmt: skip
    run = sm.attention(model(Convolutions(norm=True), images=images), trajectories=3, sigma=(0.5,), radius=3.0)
    assert run.results["norms_1"].estimate.value == pytest.approx(1, abs=1e-9)
    assert run.results["neither_1"].estimate.value == pytest.approx(0, abs=1e-9)
    assert run.results["attention_1"].estimate.reason == "no such part"
    assert "sites apart, the norms' statistics carry 100 [100, 100] % at sigma = 0.5, and there is no attention." in (
        run.results.answer
    )
    assert run.identity["networks"] == [WHOLE, NORMS, NULL]
    power = run.dataset["distance_power"].to_numpy()[:, 0]
    assert (power[:, 0, 4:] > 0).all()
    assert (power[:, 1, 4:] == 0).all()
    near = sm.attention(model(Convolutions(norm=True), images=images), trajectories=3, sigma=(0.5,), radius=1.0)
    assert near.results["neither_1"].estimate.value > 0.5


def test_shares_of_known_parts() -> None:
    """Orthogonal parts have the shares of their squares; a network that lacks a part has none of it."""
    both, attention, norms, rest = (normal(9, 9, seed=s) * (torch.arange(81).reshape(9, 9) % 4 == s) for s in range(4))
    far = {
        WHOLE: both + attention + norms + rest, FROZEN: norms + rest, NORMS: attention + rest, BOTH: rest
    }  # fmt: skip
    square = torch.stack([part.square().sum() for part in (attention, norms, both, rest)])
    torch.testing.assert_close(sources(far), square / square.sum())
    alone = sources({WHOLE: attention + rest, FROZEN: rest})
    assert alone.isnan().tolist() == [False, True, True, False]
    assert float(alone[0]) == pytest.approx(float(square[0] / (square[0] + square[3])))


def test_an_untrained_network_has_all_four_parts_and_the_softest_modes_of_lanczos() -> None:
    """Shares add up to 1 at every state; eigenvalues are those of the matrix-free search, to its tolerance."""
    network = small_network()
    run = sm.attention(network, trajectories=2, sigma=(2.0, 0.5), dtype="float32")
    assert run.identity["parts"] == {"attention": 1, "norms": 14}
    np.testing.assert_allclose(run.dataset["source"].to_numpy().sum(-1), 1, rtol=1e-6)
    assert len(run.identity["networks"]) == 7
    plan = prepare(Config(model="small", sigma=(2.0,)), {"model": network})
    x = plan._state(None, 0, 0)
    found = softest_modes(network.denoiser(), x, 2.0, torch.ones_like(x), count=4)
    values = run.dataset["soft_value"].to_numpy()[0, 0]
    assert values[0] == pytest.approx(float(found.values[0, 0]), rel=3e-3)
    coupling = run.dataset["soft_coupling"].to_numpy()
    np.testing.assert_allclose(coupling, coupling.swapaxes(3, 4), atol=1e-12)


def test_a_state_is_tiled_and_its_noise_is_not() -> None:
    """What is left of a state of 16x16 without its noise is one image of 8x8 four times."""
    network = small_network()
    large = sm.Model(network.name, network.process, (1, 16, 16), network.bind, 3, images=network.images)
    plan = prepare(Config(model="small", sigma=(3.0, 1.0), labels=(2,)), {"model": large})
    one, other = plan._state(2, 1, 0), plan._state(2, 1, 1)
    noise = (one - other) / 2
    assert noise.std() == pytest.approx(1, abs=0.2)
    image = large.images.tensor(large.images.labels == 2)[1]
    torch.testing.assert_close(other - noise, image.repeat(1, 2, 2)[None], rtol=0, atol=1e-5)
    assert plan.radius == 4
    assert plan.identity["data"]["tile"] == [8, 8]


def test_tiles_of_the_null_know_nothing_of_each_other() -> None:
    """Its matrix on two by two tiles is that of one at pairs within a tile, and 0 between tiles."""
    images = normal(20, 1, 2, 3, seed=1)
    one = Null((1, 2, 3), 0.5, images, None).matrix(1.0)
    four = Null((1, 4, 6), 0.5, images, None).matrix(1.0)
    assert one is not None
    assert four is not None
    blocks = four.reshape(2, 2, 2, 3, 2, 2, 2, 3)
    torch.testing.assert_close(blocks[0, :, 1, :, 0, :, 1, :].reshape(6, 6), one)
    assert blocks[0, :, 1, :, 1, :, 1, :].abs().max() == 0


def test_the_null_of_a_spectrum_alone_has_no_rest() -> None:
    """It moves with the site; without a spectrum either, there is no null."""
    spectrum = ornstein_zernike(4, 4)
    null = Null((1, 4, 4), 1.0, None, spectrum)
    assert null.edge(1.0) == 0
    matrix = null.matrix(1.0)
    assert matrix is not None
    assert float((matrix[0, displacements((4, 4))] - matrix).abs().max()) < 1e-12
    none = Null((1, 4, 4), 1.0, None, None)
    assert none.matrix(1.0) is None
    assert math.isnan(none.edge(1.0))


@pytest.mark.parametrize(
    ("gamma", "coherence", "uniform", "word"),
    [
        ([], [], 0.0, "none"),
        ([1.0, 0.3], [0.9, 0.0], 0.0, "Curie-Weiss-like"),
        ([1.0, 0.3], [0.1, 0.0], 0.0, "Mattis-like"),
        ([-1.0, 0.3], [0.9, 0.0], 0.0, "mixed"),
        ([1.0, -0.9, 0.8], [0.9, 0.0, 0.0], 0.0, "Hopfield-like"),
        ([0.3], [0.0], 1.2, "Curie-Weiss-like"),
        ([0.3], [0.0], 0.25, "Mattis-like"),
    ],
)
def test_the_case_of_a_state(gamma: list[float], coherence: list[float], uniform: float, word: str) -> None:
    """By the stated measures; what all sites share counts where it exceeds the null's by more than the edge."""
    wide = [np.array(each + [math.nan] * (4 - len(each))) for each in (gamma, coherence)]
    found = verdict(*wide, uniform, null=0.1, edge=0.2)
    assert found.word == word
    extra = 1 if uniform > 0.3 else 0
    assert found.positive == sum(value > 0 for value in gamma) + extra
    assert found.negative == sum(value < 0 for value in gamma)


def test_intervals_of_few_states_are_student_s() -> None:
    """Of 4 normal numbers 95 % of 4000 intervals hold the mean, within 4 standard errors; the normal ones hold 85 %."""
    found = [mean_of(each.numpy()) for each in normal(4000, 4, seed=1)]
    held = np.mean([each.low <= 0 <= each.high for each in found])
    assert held == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))
    assert math.isnan(mean_of(np.array([1.0])).stderr)


def test_apart_keeps_every_part() -> None:
    """Powers of the four parts add up to the matrix's, and power by distance to the same."""
    matrix = normal(36, 36, seed=1)
    found = apart(matrix, (1, 6, 6), 1.5, 0.0, generator())
    total = float(matrix.square().sum())
    assert float(found.values["power"].sum()) == pytest.approx(total)
    assert float(found.values["distance_power"].sum()) == pytest.approx(total)
    assert float(found.values["power"][3]) == pytest.approx(float(found.far.square().sum()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trajectories": 1}, "trajectories: got 1; expected at least 2: fewer have no interval"),
        ({"trajectories": 99}, "trajectories: got 99; expected at most 30, the held-out data"),
        ({"sigma": ()}, "sigma: got none; expected at least one noise level"),
        ({"sigma": (200.0,)}, "sigma: got 200; expected 0.01 to 80, the noise levels of 'small'"),
        ({"radius": 20.0}, "radius: got 20; expected less than 5.66, the farthest"),
        ({"labels": (7,)}, "labels: got 7; expected 0 to 2"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """In one line, before anything is computed."""
    known = small_network()
    limited = sm.Model("small", VE(), known.shape, known.bind, 3, images=known.images, levels=(0.01, 80.0))
    with refused(words):
        sm.attention(limited, **settings)


@pytest.mark.parametrize("network", [Convolutions(norm=False), lambda x, sigma: x / 2], ids=["no norm", "no network"])
def test_a_model_with_nothing_to_take_out_is_refused(network: Any) -> None:
    """It is told what can be measured instead."""
    with refused("model: 'made' has no attention and no norm .* softmode probe measures how far .* response reaches"):
        sm.attention(model(network))


def test_a_model_without_data_is_refused() -> None:
    """With the option that helps."""
    with refused("data: 'made' has no held-out images that fit .* name a file with --data"):
        sm.attention(model(Convolutions(norm=True)))


def test_a_jacobian_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sides that would."""
    monkeypatch.setattr("softmode.experiments.attention.inputs.free_memory", lambda: 96.0 * 64**4)
    check_dense(sm.Model("fits", VE(), (1, 64, 64), lambda label: lambda x, sigma: x))
    with refused(r"shape: got \(3, 64, 64\); expected at most \(3, 36, 36\): the dense Jacobian .* GiB of memory"):
        check_dense(sm.Model("large", VE(), (3, 64, 64), lambda label: lambda x, sigma: x))
