"""The models whose answer is known: such without any transition, and such with one or several."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.validate.flaws import FLAWS
from softmode.lattice import Lattice
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.networks.preconditioned import Preconditioned
from softmode.networks.unet import UNet
from softmode.process import VE

SIDE = 16
SITES = SIDE * SIDE
# norms of class means: a label is gained at up to twice of them, which must lie below the highest level, 80
NORMS = (4.0, 30.0)
# coarsest level of a tree, and the ratio of one level to the next
COARSEST, RATIO = 30.0, 10.0
# symbols of a random hierarchy model, rules of each, and levels below the class
SYMBOLS, RULES, DEPTH = 4, 2, 3
# network whose training data's spectrum is taken
DATA = "fashion-mnist"


class Case(NamedTuple):
    """A model with a known answer.

    Attributes:
        kind: What it is.
        flaw: What is wrong with it.
        model: The model.
        mixture: Its law, where it has a transition.
        labels: Class of each component of the law; None where the model takes none.
        levels: Norms of the differences of a tree, from the coarsest on; empty of any other model.
    """

    kind: str
    flaw: str
    model: Model
    mixture: GaussianMixture | None = None
    labels: Tensor | None = None
    levels: tuple[float, ...] = ()


class Law(NamedTuple):
    """What a null model is: its denoiser, the standard deviation of its data, and what else a model tells of them.

    Attributes:
        denoiser: The denoiser.
        scale: Standard deviation of a site.
        told: Spectrum and mean of the data, or nothing.
        classes: Labels that it takes and is deaf to.
    """

    denoiser: Denoiser
    scale: float
    told: Mapping[str, Any] = {}
    classes: int = 0


def _gaussian(spectrum: Tensor) -> Law:
    """Return a Gaussian field, which tells its spectrum as a model with data does."""
    told = {"spectrum": spectrum[None], "mean": torch.zeros(1, 1, SIDE, SIDE)}
    return Law(GaussianDenoiser(spectrum), math.sqrt(float(spectrum.mean())), told)


def _square() -> Tensor:
    """Return the squared wavenumbers of the lattice, 2 - 2 cos k summed over the axes."""
    return (2 - 2 * Lattice((SIDE, SIDE)).wave_vectors().cos()).sum(-1).double()


def _white(rng: np.random.Generator) -> Law:
    return _gaussian(torch.full((SIDE, SIDE), float(rng.uniform(0.3, 30)), dtype=torch.float64))


def _power_law(rng: np.random.Generator) -> Law:
    spectrum = (_square() + _square()[0, 1]) ** -float(rng.uniform(0.5, 1.5))
    return _gaussian(float(rng.uniform(0.3, 30)) * spectrum / spectrum.mean())


def _ornstein_zernike(rng: np.random.Generator) -> Law:
    return _gaussian(float(rng.uniform(1, 30)) / (10 ** float(rng.uniform(-2, 0)) + _square()))


def _ring(rng: np.random.Generator) -> Law:
    """Return a field with a preferred wavelength."""
    off = _square() - float(rng.uniform(0.3, 3))
    return _gaussian(float(rng.uniform(1, 30)) / (0.05 + off.square()))


def _data_like(rng: np.random.Generator) -> Law:
    """Return a field with the lowest waves of the spectrum of the shipped network's data."""
    spectrum = load_model(DATA).spectrum
    assert spectrum is not None
    wave = torch.fft.fftfreq(SIDE, 1 / SIDE).long()
    # the highest wave of an even lattice is its own mirror image
    wave = torch.where(wave == -SIDE // 2, SIDE // 2, wave)
    low = spectrum[-1].double()[wave][:, wave]
    mirrored = low.flip((0, 1)).roll((1, 1), (0, 1))
    return _gaussian(float(rng.uniform(0.5, 20)) * (low + mirrored) / 2)


def _near_classes(rng: np.random.Generator) -> Law:
    """Return two classes nearer than their width, whose law is log-concave along any line."""
    spread = float(rng.uniform(0.5, 5))
    mean = float(rng.uniform(0.3, 0.95)) * spread * direction(rng)
    return Law(GaussianMixture(torch.stack([mean, -mean]), spread).denoiser(), spread)


def _pixels(rng: np.random.Generator) -> Law:
    """Return independent pixels of two values: unstable in modes of one site, so no window."""
    size = float(rng.uniform(0.5, 5))
    return Law(lambda x, sigma: size * torch.tanh(size * x / sigma**2), size)


def _untrained(rng: np.random.Generator) -> Law:
    """Return a network with random weights: the U-Net of softmode train, or a few convolutions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        if rng.random() < 0.25:
            network = UNet(1, width=16).eval().requires_grad_(False)
            white = GaussianDenoiser(torch.full((SIDE, SIDE), 0.5, dtype=torch.float64))
            return Law(Preconditioned(network, white, 0.7), 0.7)
        first, last = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 3, padding=1)
        inner = torch.nn.Sequential(first, torch.nn.SiLU(), last).requires_grad_(False)

    def denoiser(x: Tensor, sigma: Tensor | float) -> Tensor:
        square = torch.as_tensor(sigma, dtype=x.dtype) ** 2
        wide = (1 + square).sqrt()
        return x / (1 + square) + square.sqrt() / wide * inner(x / wide)

    return Law(denoiser, 1.0)


def _deaf(rng: np.random.Generator) -> Law:
    """Return a field with labels that say nothing, beyond the errors of each."""
    return _ornstein_zernike(rng)._replace(classes=int(rng.integers(2, 6)))


NULLS: dict[str, Callable[[np.random.Generator], Law]] = {
    "white field": _white, "power-law field": _power_law, "Ornstein-Zernike field": _ornstein_zernike,
    "ring field": _ring, "data-like field": _data_like, "near classes": _near_classes,
    "independent pixels": _pixels, "untrained network": _untrained, "labels of nothing": _deaf,
}  # fmt: skip


def null_case(index: int, seed: int) -> Case:
    """Return a model without a transition of the next kind; all flaws of a kind come before its next model."""
    rng = np.random.default_rng([seed, index, 0])
    kinds, flaws = list(NULLS), list(FLAWS)
    kind, flaw = kinds[index % len(kinds)], flaws[index // len(kinds) % len(flaws)]
    law = NULLS[kind](rng)
    labels = (None, *range(law.classes))
    bound = {label: FLAWS[flaw](law.denoiser, law.scale, place) for place, label in enumerate(labels)}
    return Case(kind, flaw, Model(kind, VE(), (1, SIDE, SIDE), bound.__getitem__, law.classes, **law.told))


def direction(rng: np.random.Generator) -> Tensor:
    """Return a unit field [1, side, side]: a plane wave, most of them in no shell, or a random field."""
    if rng.random() < 0.5:
        row, column = rng.integers(0, SIDE // 2 + 1, 2).tolist()
        k, site = Lattice((SIDE, SIDE)).wave_vectors()[row, column].double(), torch.arange(SIDE, dtype=torch.float64)
        field = torch.cos(k[0] * site[:, None] + k[1] * site)
    else:
        field = torch.from_numpy(rng.standard_normal((SIDE, SIDE)))
    return (field / field.norm())[None]


def _norm(rng: np.random.Generator) -> float:
    low, high = np.log(NORMS)
    return float(np.exp(rng.uniform(low, high)))


def _two(rng: np.random.Generator) -> GaussianMixture:
    mean = _norm(rng) * direction(rng)
    return GaussianMixture(torch.stack([mean, -mean]), float(rng.uniform(0.05, 1)))


def _several(rng: np.random.Generator) -> GaussianMixture:
    """Return three to eight classes whose means are independent fields."""
    fields = torch.from_numpy(rng.standard_normal((int(rng.integers(3, 9)), 1, SIDE, SIDE)))
    return GaussianMixture(_norm(rng) * fields / math.sqrt(SITES), float(rng.uniform(0.05, 1)))


def _tree(depth: int, rng: np.random.Generator) -> tuple[GaussianMixture, tuple[float, ...]]:
    """Return the leaves of a binary tree whose levels differ along orthogonal fields."""
    coarsest = COARSEST * float(rng.uniform(0.8, 1.25))
    levels = tuple(coarsest / RATIO**level for level in range(depth))
    waves = torch.linalg.qr(torch.stack([direction(rng).flatten() for _ in levels], 1))[0].T
    steps = [size * wave for size, wave in zip(levels, waves, strict=True)]
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * depth).reshape(-1, depth)
    means = (signs @ torch.stack(steps)).reshape(-1, 1, SIDE, SIDE)
    return GaussianMixture(means, 0.1 * levels[-1]), levels


def _hierarchy(rng: np.random.Generator) -> tuple[GaussianMixture, Tensor]:
    """Return all strings of a random hierarchy model as images, and their classes.

    A class is a pair of symbols, by one of RULES equally likely rules; each of these is another pair, and so on; at
    last a symbol is a random pattern on sites of its own. No two symbols of a level share a rule.

    Source: the Random Hierarchy Model, cagnetta2024, with so few strings that their sum is exact.
    """
    strings, labels = np.arange(SYMBOLS)[:, None], np.arange(SYMBOLS)
    pairs = np.stack(np.meshgrid(range(SYMBOLS), range(SYMBOLS)), -1).reshape(-1, 2)
    for _ in range(DEPTH):
        rules = rng.permutation(pairs)[: SYMBOLS * RULES].reshape(SYMBOLS, RULES, 2)
        chosen = np.array(list(itertools.product(range(RULES), repeat=strings.shape[1])))
        strings = rules[strings[:, None], chosen].reshape(len(strings) * len(chosen), -1)
        labels = labels.repeat(len(chosen))
    patterns = rng.standard_normal((SYMBOLS, SITES // strings.shape[1]))
    patterns *= rng.uniform(4, 8) / np.linalg.norm(patterns, axis=1, keepdims=True)
    means = torch.from_numpy(patterns[strings].reshape(-1, 1, SIDE, SIDE))
    return GaussianMixture(means, float(rng.uniform(0.1, 0.5))), torch.from_numpy(labels)


# kinds of laws; every other model of each has labels, the last one always
HIERARCHY = "random hierarchy"
TRANSITIONS = (
    "two classes", "several classes", "tree of two levels", "two classes", "tree of three levels", HIERARCHY,
)  # fmt: skip


def transition_case(index: int, seed: int) -> Case:
    """Return a model with a transition of the next kind, with labels or without, and the next flaw."""
    rng = np.random.default_rng([seed, index, 1])
    kind, flaws = TRANSITIONS[index % len(TRANSITIONS)], list(FLAWS)
    labelled, flaw = index // len(TRANSITIONS) % 2 == 1, flaws[index // (2 * len(TRANSITIONS)) % len(flaws)]
    levels: tuple[float, ...] = ()
    labels: Tensor | None = None
    if kind == HIERARCHY:
        mixture, labels = _hierarchy(rng)
    elif kind.startswith("tree"):
        mixture, levels = _tree(2 if "two" in kind else 3, rng)
    else:
        mixture = _several(rng) if kind.startswith("several") else _two(rng)
    if labelled and labels is None:
        labels = torch.arange(len(mixture.means))
    scale = math.sqrt(mixture.spread**2 + float(mixture.means.var(0, correction=0).mean()))
    classes = 0 if labels is None else int(labels.max()) + 1
    bound: dict[int | None, Denoiser] = {None: FLAWS[flaw](mixture.denoiser(), scale, 0)}
    for label in range(classes):
        of_class = GaussianMixture(mixture.means[labels == label], mixture.spread)
        bound[label] = FLAWS[flaw](of_class.denoiser(), scale, label + 1)
    model = Model(kind, VE(), (1, SIDE, SIDE), bound.__getitem__, classes)
    return Case(kind, flaw, model, mixture, labels, levels)
