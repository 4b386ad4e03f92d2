"""How far D is from the data, and whether its gains keep the Gaussian bound."""

import math

import numpy as np
import torch

from softmode.estimate import Estimate
from softmode.lattice import Lattice
from softmode.observe.gains import mode_signs, multiplexed_gains
from softmode.runs.results import Cell, Quantity, Table
from softmode.training.quality.subject import Part, Subject, mean, parts

# noise levels of the errors and of the bound, each falling
LEVELS = (80.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.002)
BOUND_LEVELS = (80.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
SHELLS = 6
# relative error of a gain in single precision
ROUNDING = 1e-4


def errors(subject: Subject) -> Part:
    """Tabulate the square error of D per site by noise level, beside the Gaussian null model's on the same states."""
    x, null = subject.images.tensor(), subject.model.null()
    # of several attributes no image has one label alone
    target = subject.targets[0] if len(subject.targets) == 1 else None
    noise = torch.randn(x.shape, generator=subject.generator("errors")).to(x)
    rows: list[tuple[Cell, ...]] = []
    for sigma in LEVELS:
        state = x + sigma * noise
        each = (subject.denoiser()(state, sigma) - x).flatten(1).double().square().mean(1)
        row: list[Cell] = [sigma, mean(each.cpu())]
        if target:
            own = (subject.of_own(target, state, sigma) - x).flatten(1).double().square().mean(1)
            row.append(mean((own - each).cpu()))
        if null is not None:
            row.append(float((null(state, sigma) - x).double().square().mean()))
        rows.append(tuple(row))
        subject.advance()
    lowest = math.sqrt(rows[-1][1].value) / LEVELS[-1]  # type: ignore[union-attr] # an Estimate
    columns = ("sigma", "D", *(["label less none"] if target else []), *(["Gaussian"] if null else []))
    note = "per site, on held-out images; an exact D has less than the Gaussian model of the same spectrum"
    near = Estimate(lowest, math.nan, len(x))
    return [Quantity("distance_lowest", 0, near, "rms of D - x_0 at sigma = 0.002, in units of sigma")], {
        "errors": Table("Square error by noise level", columns, tuple(rows), note)
    }


def bound(subject: Subject) -> Part:
    """Compare the mean gain of each shell on noised data with the Gaussian bound S/(S + sigma^2)."""
    null = subject.model.null()
    if null is None:
        return [], {}
    x, lattice = subject.images.tensor(), Lattice.of(subject.images.tensor())
    generator, modes = subject.generator("bound"), 2 * lattice.dimensions * SHELLS
    rows: list[tuple[Cell, ...]] = []
    for place, sigma in enumerate(BOUND_LEVELS):
        state = x + sigma * torch.randn(x.shape, generator=generator).to(x)
        gains = []
        for part in parts(len(x)):
            signs = mode_signs(modes, range(len(x))[part], place, subject.config.seed)
            # in full precision: half precision's rounding does not cancel in a difference
            gains.append(multiplexed_gains(subject.model.denoiser(), state[part], sigma, SHELLS, signs))
        found = torch.cat(gains).double().mean(2).cpu()
        limit = null.dispersion(state[:1].double(), sigma, lattice.shell_vectors(SHELLS))[0].mean(1).cpu()
        excess = [mean(found[:, n] - limit[n]) for n in range(SHELLS + 1)]
        # gains that are 0 in every state have no error but that of rounding
        ratios = [
            each.value / max(each.stderr, ROUNDING * float(most)) for each, most in zip(excess, limit, strict=True)
        ]
        worst = int(np.argmax(ratios))
        share = excess[worst].value / float(limit[worst])
        rows.append((sigma, mean(found[:, 0]), float(limit[0]), worst, f"{share:+.1%}", round(ratios[worst], 1)))
        subject.advance()
    highest = max(float(row[5]) for row in rows)  # type: ignore[arg-type] # a number
    columns = ("sigma", "G_0", "bound of G_0", "worst shell", "its excess", "in s.e.")
    note = f"shells 0 to {SHELLS}, on noised held-out images; an exact D exceeds no bound"
    constant = rows[-1][1]
    assert isinstance(constant, Estimate)
    quantities = [
        Quantity("bound_excess", 0, Estimate(highest, math.nan, len(x)), "largest excess over the bound, in s.e."),
        Quantity("constant_gain", 0, constant, f"gain of the constant mode at sigma = {BOUND_LEVELS[-1]}"),
    ]
    return quantities, {"bound": Table("The Gaussian bound", columns, tuple(rows), note)}
