r"""How far frozen patch models are from equilibrium: the table and the figure of docs/phase.md.

For every model and noise level: the entropy production e in k_B per site and time sigma^2, by the formula of single
states (`softmode.exact.patch_balance`) at three steps, extrapolated; and the share of the Jacobian that no gradient
has. At the transition, independently, from trajectories of Gaussian Euler steps: the Stratonovich sum of what D - Dbar
does along the way, without any derivative, extrapolated in the step; and the asymmetry in time (<D(0) x(tau)> - <x(0)
D(tau)>)/(2 sigma^2), which begins as e tau and is 0 at all times for a dynamics in equilibrium. A density in the guise
of a patch is put through the same.

    python benchmarks/entropy_production.py --figure entropy_production.png     # ten minutes on a core
    python benchmarks/entropy_production.py --small                             # to see that it works
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Estimate, of_mean
from softmode.exact.dictionary import PatchDictionary, paper_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_balance import entropy_production, excess, irreciprocity
from softmode.exact.patch_dynamics import PatchModel, Steps, advance, frozen_steps
from softmode.lattice import ReceptiveField
from softmode.runs.draw import save, styled

# name -> receptive field, noise level of the transition (docs/phase.md)
MODELS = {"cross:1": ("cross:1", 0.871), "box:3": ("box:3", 1.147), "box:5": ("box:5", 1.959),
          "box:7": ("box:7", 2.765), "ten patterns": ("box:5", 1.760)}  # fmt: skip
CONTROL = "one site in disguise"
LEVELS = (0.7, 0.85, 0.95, 1.0, 1.07, 1.15, 1.25, 1.4, 1.7, 2.2, 3.0)
STEPS = (0.5, 0.25, 0.125)
EULER = (0.1, 0.05)
# time between two states that are measured, and between two of a trajectory
APART, LAG = 2.0, 0.25


class Work(NamedTuple):
    """How much is measured: side, replicas, states, time before them; time of a trajectory, and its lags."""

    side: int
    replicas: int
    states: int
    cut: float
    time: float
    lags: int


WHOLE = Work(64, 8, 100, 300.0, 100.0, 24)
SMALL = Work(16, 4, 10, 20.0, 5.0, 4)


def model_of(name: str) -> tuple[PatchModel, float]:
    """Return a model and its noise level."""
    if name == CONTROL:
        field = ReceptiveField.parse("cross:1")
        patterns = torch.zeros(2, field.size, dtype=torch.float64)
        patterns[:, field.centre] = torch.tensor([1.0, -1.0])
        return PatchDenoiser(PatchDictionary(field, patterns, torch.full((2,), 0.5, dtype=torch.float64))), 0.871
    text, level = MODELS[name]
    field = ReceptiveField.parse(text)
    return (PatchDenoiser(paper_dictionary(0, field)) if name == "ten patterns" else TwoStatePatch(field)), level


def ordered(work: Work, sigma: float) -> torch.Tensor:
    """Return ordered states with noise."""
    shape = (work.replicas, 1, work.side, work.side)
    return 1 + sigma * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def single_states(model: PatchModel, sigma: float, step: float, work: Work) -> tuple[Estimate, float]:
    """Return e by the formula of single states, its error from the replicas' own means, and the irreciprocity."""
    keys, every, generator = torch.arange(work.replicas), round(APART / step), torch.Generator().manual_seed(2)
    before = round(work.cut / step)
    x = advance(model, ordered(work, sigma), frozen_steps(sigma, step, before), keys, 0, "three-point")
    steps, values, share = frozen_steps(sigma, step, every), [], []
    for k in range(work.states):
        x = advance(model, x, steps, keys, before + k * every, "three-point")
        seen = x + float(steps.before[0]) * torch.randn(x.shape, generator=generator)
        values.append(entropy_production(model, seen, sigma))
        if k % 10 == 0:
            share.append(float(irreciprocity(model, seen, sigma).mean()))
    # two halves of each replica
    halves = torch.stack(values, 1).unflatten(1, (2, -1)).mean(2).flatten()
    return of_mean(halves.numpy()), float(np.mean(share))


def extrapolated(coarse: Estimate, fine: Estimate, ratio: float) -> Estimate:
    """Return what two steps of some ratio give for none, linear in the step."""
    value = fine.value + (fine.value - coarse.value) / (ratio - 1)
    error = math.hypot(ratio * fine.stderr, coarse.stderr) / (ratio - 1)
    return Estimate(value, error, fine.samples, value - 1.96 * error, value + 1.96 * error)


def trajectory(model: PatchModel, sigma: float, step: float, work: Work) -> tuple[Estimate, np.ndarray]:
    """Return e by the Stratonovich sum of what D - Dbar does along Euler's steps, and the asymmetry in time at lags."""
    keys, count, between = torch.arange(work.replicas), round(work.time / step), round(LAG / step)
    one = (np.array([value]) for value in (sigma, 0.0, 1 - step, step, sigma * math.sqrt(2 * step)))
    steps, before = Steps(*one), round(work.cut / step)
    x = advance(model, ordered(work, sigma), Steps(*(np.repeat(each, before) for each in vars(steps).values())), keys)
    force, sums, kept = excess(model, x, sigma), [], []
    for k in range(count):
        moved = advance(model, x, steps, keys, before + k)
        after = excess(model, moved, sigma)
        denoised = model(x, sigma)
        # the work of (D - Dbar)(x) on the noise of the step is 0 on average and is left out
        work_done = (after - force) * (moved - x) / 2 / step + force * (denoised - x)
        sums.append(work_done.double().flatten(1).mean(1) / sigma**2)
        if k % between == 0:
            kept.append(torch.stack([x.flatten(1), denoised.flatten(1)]))
        x, force = moved, after
    halves = torch.stack(sums, 1)[:, : count // 2 * 2].unflatten(1, (2, -1)).mean(2).flatten()
    states = torch.stack(kept)
    asymmetry = [
        ((states[:-lag, 1] * states[lag:, 0] - states[:-lag, 0] * states[lag:, 1]).double().mean((0, 2))
         / (2 * sigma**2)).numpy()
        for lag in range(1, work.lags + 1)
    ]  # fmt: skip
    return of_mean(halves.numpy()), np.stack(asymmetry)


def rows_of(name: str, levels: tuple[float, ...], work: Work) -> list[tuple[float, Estimate]]:
    """Print a model's rows, and return its curve: noise level over that of the transition, and e of a patch's sites."""
    model, critical = model_of(name)
    size = model.receptive_field.size
    curve = []
    for share in levels:
        sigma = share * critical
        found = [single_states(model, sigma, step, work) for step in STEPS]
        none = extrapolated(found[0][0], found[-1][0], STEPS[0] / STEPS[-1])
        curve.append((share, Estimate(size * none.value, size * none.stderr, none.samples)))
        steps = " | ".join(str(each) for each, _ in found)
        print(f"{name} | {share:.2f} | {sigma:.3f} | {steps} | {none} | {found[1][1]:.3f}", flush=True)
    return curve


def along_of(name: str, work: Work) -> np.ndarray:
    """Print what trajectories at the transition give, and return the asymmetry in time, [lag, replica]."""
    model, sigma = model_of(name)
    found = [trajectory(model, sigma, step, work) for step in EULER]
    none = extrapolated(found[0][0], found[1][0], EULER[0] / EULER[1])
    first = of_mean(found[1][1][0] / LAG)
    print(f"trajectory, {name} | {found[0][0]} | {found[1][0]} | {none} | {first}", flush=True)
    return found[1][1]


def draw(axes: tuple[Axes, Axes], curves: dict[str, list], asymmetries: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    """Draw e of a patch's sites against the noise level, and the asymmetry against the time."""
    left, right = axes
    for name, curve in curves.items():
        values, errors = ([getattr(each, part) for _, each in curve] for part in ("value", "stderr"))
        left.errorbar([share for share, _ in curve], values, errors, fmt="o-", markersize=4, linewidth=1.4, label=name)
    left.axvline(1, color="0.5", linestyle=":", linewidth=1.2, zorder=0)
    left.set_xscale("log")
    left.set_xticks([0.7, 1, 1.5, 2, 3], ["0.7", "1", "1.5", "2", "3"])
    left.minorticks_off()
    left.set_xlabel(r"noise level over that of the transition, $\sigma/\sigma_c$")
    left.set_ylabel(r"$|\Omega|\,e$ ($k_B$ per $|\Omega|$ sites and $\sigma^2$)")
    left.set_title("entropy production", fontsize="medium")
    left.legend()
    for name, values in asymmetries.items():
        tau = LAG * np.arange(1, len(values) + 1)
        right.errorbar(tau, values.mean(1), values.std(1, ddof=1) / math.sqrt(values.shape[1]), fmt="o-", markersize=4,
                       linewidth=1.4, label=name, color="0.5" if name == CONTROL else None)  # fmt: skip
    right.set_xlabel(r"time $\tau$ (units of $\sigma^2$)")
    right.set_ylabel(r"$(\langle D(0)\,x(\tau)\rangle - \langle x(0)\,D(\tau)\rangle)/2\sigma^2$")
    right.set_title("asymmetry in time at the transition", fontsize="medium")
    right.legend()


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, help="where to draw both, a .png")
    parser.add_argument("--small", action="store_true", help="small lattices, to see that it works")
    chosen = parser.parse_args()
    work, levels = (SMALL, (1.0,)) if chosen.small else (WHOLE, LEVELS)
    print(f"model | sigma/sigma_c | sigma | e at h = {', '.join(map(str, STEPS))} | no step | irreciprocity")
    curves = {name: rows_of(name, levels, work) for name in MODELS}
    rows_of(CONTROL, (1.0,), work)
    print(f"trajectory, model | e at h = {', '.join(map(str, EULER))} | no step | asymmetry at {LAG} over {LAG}")
    asymmetries = {name: along_of(name, work) for name in ("cross:1", "box:3", "box:5", CONTROL)}
    if chosen.figure:
        with styled():
            figure = Figure(figsize=(13, 5.4), layout="constrained")
            draw(tuple(figure.subplots(1, 2)), curves, asymmetries)
            save(figure, chosen.figure.with_suffix(""), ("png",))


if __name__ == "__main__":
    main()
