"""Small models with known answers."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from softmode.beta import Cosine, Custom, Linear
from softmode.data import Images
from softmode.denoiser import per_sample
from softmode.exact.dictionary import PatchDictionary, paper_dictionary
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.mixture import GaussianMixture
from softmode.exact.patch import PatchDenoiser
from softmode.labels import Label
from softmode.lattice import Lattice, ReceptiveField
from softmode.model import Model
from softmode.networks.unet import UNet
from softmode.process import VE, VP, Process

from .random import normal, pixels

# every schedule, and noise that grows without a schedule
PROCESSES: dict[str, Process] = {
    "vp": VP(),
    "vp-linear": VP(Linear()),
    "vp-cosine": VP(Cosine()),
    "vp-custom": VP(Custom(lambda t: 2 + 3 * math.sin(5 * t) ** 2, t_end=3.0)),
    "ve": VE(),
}
processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)

# neither symmetric under u -> -u nor equally wide along its axes
LOPSIDED = ReceptiveField(((0, 0), (0, 1), (0, 2), (1, -1), (-2, 0)))


def probabilities(*weights: float) -> Tensor:
    """Return weights over their sum."""
    prior = torch.tensor(weights, dtype=torch.float64)
    return prior / prior.sum()


def real_dictionary(field: ReceptiveField, *weights: float, seed: int = 3) -> PatchDictionary:
    """Return real patterns of unequal norm, without any symmetry; a weight of 0 switches a pattern off."""
    return PatchDictionary(field, normal(len(weights), field.size, seed=seed), probabilities(*weights))


def patch_denoiser() -> PatchDenoiser:
    """Return the paper's dictionary on patches of 3 by 3: a local score that is not linear."""
    return PatchDenoiser(paper_dictionary(0, ReceptiveField.box(3, 2)))


def ornstein_zernike(*space: int, mass: float = 0.3, strength: float = 3.0) -> Tensor:
    """Return the spectrum strength / (mass + khat^2), khat = 2 sin(k/2), [*space]."""
    return strength / (mass + (2 - 2 * Lattice(space).wave_vectors().cos()).sum(-1))


def skewed_spectrum(*space: int) -> Tensor:
    """Return a spectrum that is even in k but not in each component of k, [*space]."""
    return ornstein_zernike(*space, strength=2.0) + 0.2 * (1 + Lattice(space).wave_vectors().sum(-1).cos())


class LinearDenoiser:
    """D = A x on flattened states, with any matrix A; keeps the states that it was called with."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.seen = matrix, list[Tensor]()

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        self.seen.append(x)
        return (x.flatten(1) @ self.matrix.T).reshape(x.shape)


class Classifier:
    """A classifier of any two functions: features [batch, feature] of states, and logits [batch, class] of features."""

    channels = 1

    def __init__(self, features: Callable[[Tensor], Tensor], head: Callable[[Tensor], Tensor], classes: int) -> None:
        self.features, self.head, self.classes = features, head, classes

    def __call__(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def by_sign(x: Tensor) -> Tensor:
    """Return logits of class 0 (negative on the whole) and class 1 (positive), [batch, 2]."""
    total = x.flatten(1).sum(1)
    return torch.stack([-total, total], 1)


def cosine_field(side: int, offset: float = 1.2) -> Tensor:
    """Return a wave along the first axis on a constant, [1, side, side]: smooth, and positive on the whole."""
    wave = torch.cos(2 * math.pi * torch.arange(side, dtype=torch.float64) / side) + offset
    return wave[:, None].expand(1, side, side).clone()


def two_states(field: Tensor, process: Process | None = None, **known: object) -> Model:
    """Return a model of the states ±field [channel, *space]; class 0 has only the first, class 1 only the second."""
    data = torch.stack([field, -field])

    def bind(label: int | None) -> EmpiricalDenoiser:
        return EmpiricalDenoiser(data if label is None else data[[label]])

    return Model("two", process or VP(), tuple(field.shape), bind, **known)  # type: ignore[arg-type]


def two_gaussians(mu: Tensor, spread: float) -> GaussianMixture:
    """Return two equal classes of width `spread` around mu [channel, *space] and -mu."""
    return GaussianMixture(torch.stack([mu, -mu]), spread)


def mixture_model(mixture: GaussianMixture, name: str = "mixture") -> Model:
    """Return a model in VE of one class for each component of a mixture."""
    shape = tuple(mixture.means.shape[1:])
    return Model(name, VE(), shape, mixture.denoiser, classes=len(mixture.means))


def null_model(*space: int, mean: float = 0.0) -> dict[str, Tensor]:
    """Return what a `Model` of one channel tells of its data for the Gaussian null model: spectrum and mean."""
    spectrum = ornstein_zernike(*space, mass=0.4)
    return {"spectrum": spectrum[None].float(), "mean": torch.full((1, 1, *space), mean)}


def small_network(attention: tuple[int, ...] = (4,), rms: bool = True, side: int = 8) -> Model:
    """Return an untrained U-Net with attention and norms, of three classes that are one to it, and its data."""
    torch.manual_seed(0)
    network = UNet(width=8, attention=attention, rms=rms).eval().requires_grad_(False)
    for parameter in network.parameters():  # what starts at zero must show
        torch.nn.init.normal_(parameter, std=0.15)

    def denoise(x: Tensor, sigma: Tensor | float) -> Tensor:
        level = per_sample(sigma, x).flatten().expand(len(x)).to(x.dtype)
        wide = (1 + level.square()).reshape(-1, *[1] * (x.ndim - 1))
        out: Tensor = network(x / wide.sqrt(), level)
        return x / wide + out

    images = Images(pixels(30, 1, side, side), torch.arange(30) % 3, "grey")
    return Model("small", VE(), (1, side, side), lambda label: denoise, classes=3, images=images)


def assert_takes_labels_together(model: Model, labels: Sequence[Label], dtype: torch.dtype = torch.float32) -> None:
    """Check that a model answers states with a label each in one call as it does each under its own, and no other."""
    x = normal(len(labels), *model.shape, seed=11).to(dtype)
    sigma = torch.linspace(0.5, 2.0, len(labels), dtype=torch.float64)
    with torch.no_grad():
        found = model.of_states(labels)(x, sigma)
        alone = {label: model.denoiser(label) for label in labels}
        expected, other = (
            torch.cat([alone[label](x[[i]], sigma[[i]]) for i, label in enumerate(order)])
            for order in (labels, [*labels[1:], labels[0]])
        )
    apart, rounding = (float((each - expected).abs().max()) for each in (other, found))
    near = 1e3 * torch.finfo(dtype).eps * float(expected.abs().max())
    assert rounding < near < 0.5 * apart, (rounding, near, apart)
    assert found.dtype == dtype
