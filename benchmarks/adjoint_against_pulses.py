"""Count the network evaluations that reverse sweeps and finite pulses need for an equal standard error.

On the same network, weight and trials, both give a curve: what guidance gains per unit of w d log sigma at each level.
Pulses push one level of an unguided way with the whole weight. Sweeps give the derivative at all levels, without
guidance (the limit of weak pulses) or, at one stratified random point of each trial's way to the weight, what each
level gains of the whole. An evaluation is one call of a network for one state; its derivative counts as two.

For each the table has the evaluations of a trial; the median over levels of the relative standard error of the mean
curve; that of the ends of the shortest interval of 80 %, in log sigma; and the evaluations for 10 % and for 0.5 of
these, as 1/sqrt(trials); a bootstrap over trials within classes. Then what reduces the variance.

    python benchmarks/adjoint_against_pulses.py mixture
    python benchmarks/adjoint_against_pulses.py fashion-mnist --trials 3    # 10 classes, minutes
    python benchmarks/adjoint_against_pulses.py mixture --small             # seconds, to see that it works
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from softmode.cumulative import FINE, shortest
from softmode.denoiser import Denoiser, Guided
from softmode.estimate import Array, bootstrap_draws
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.pulse.sampling import Trials, trial_noise
from softmode.experiments.pulse.trials import EDM, SAMPLER, Guidance, find_guidance
from softmode.experiments.susceptibility.adjoint_trials import SHARE, edges_of
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.outcomes import SURE
from softmode.guidance.adjoint import Adjoint
from softmode.guidance.weights import AtLevels
from softmode.model import Model
from softmode.process import VE
from softmode.samplers import initial_state

ALIGNMENTS = ("probability", "clipped logit", "logit")
HEAD = ("A", "method", "evaluations per trial", "error of curve", "of ends", "evaluations for 10 %", "for 0.5",
        "times fewer than pulses, curve", "ends")  # fmt: skip
# a weight at which float64 pulses are as good as weak
WEAK = 1e-4


class Counted:
    """A network that counts its evaluations: states of a call, thrice where its derivative will be asked for."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.count = denoiser, 0

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        self.count += len(x) * (3 if torch.is_grad_enabled() and x.requires_grad else 1)
        return self.denoiser(x, sigma)


class Curve(NamedTuple):
    """What a method found.

    Attributes:
        gain: Gain per unit of w d log sigma, [trial, level].
        evaluations: Network evaluations of all trials.
    """

    gain: Array
    evaluations: int


def mixture(distance: float, config: Config) -> Guidance:
    """Return two Gaussian classes of unit width, means at +-distance, and their exact classifier."""
    mean = torch.full((1, 2, 2), distance / 2, dtype=torch.float64)
    exact = GaussianMixture(torch.stack([mean, -mean]), spread=1.0)
    model = Model("mixture", VE(), (1, 2, 2), exact.denoiser, classes=2)
    config = replace(config, classes=2, dtype="float64")
    return find_guidance(config, {"model": model, "classifier": lambda x: exact.log_posterior(x.double(), 0.0)})


def scores(guidance: Guidance, label: int, final: Tensor) -> dict[str, Tensor]:
    """Return every alignment of samples with their class, float64 [trial]."""
    known = guidance.classifier(final).double().log_softmax(1)
    odds = known[:, label] - torch.cat([known[:, :label], known[:, label + 1 :]], 1).logsumexp(1)
    return {"probability": known[:, label].exp(), "clipped logit": odds.clamp(-SURE, SURE), "logit": odds}


class Class(NamedTuple):
    """The trials of one class, with networks that count."""

    guidance: Guidance
    label: int
    x: Tensor
    own: Counted
    guide: Counted

    @classmethod
    def all(cls, guidance: Guidance) -> Iterator["Class"]:
        for label in guidance.labels:
            noise = trial_noise(guidance, Trials.of(label, range(guidance.config.trials)))
            x = initial_state(EDM, float(guidance.levels[0]), noise, guidance.model.shape, guidance.dtype)
            yield cls(guidance, label, x, *(Counted(each) for each in guidance.denoisers[label]))

    @property
    def evaluations(self) -> int:
        return self.own.count + self.guide.count

    def sweep(self, weights: Tensor, name: str, x: Tensor | None = None) -> Tensor:
        """Return the derivative of an alignment by the weight at each level, [trial, level]."""
        starts = self.x if x is None else x

        def sample(denoiser: Denoiser) -> Tensor:
            *_, final = SAMPLER.steps(denoiser, EDM, starts.clone(), self.guidance.times)
            return final

        adjoint = Adjoint(sample, self.own, self.guide, self.guidance.levels)
        return adjoint.sweep(weights, lambda final: scores(self.guidance, self.label, final)[name]).gradient

    def ways(self, weight: float) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the alignment of unguided trials, [trial], and of those with a pulse at each level, [trial, level]."""
        levels, times = self.guidance.levels, self.guidance.times
        with torch.no_grad():
            states = [self.x, *SAMPLER.steps(self.own, EDM, self.x.clone(), times)]
            rest = {name: each.cpu().numpy() for name, each in scores(self.guidance, self.label, states[-1]).items()}
            found: dict[str, list[Array]] = {name: [] for name in rest}
            for place in range(len(levels)):
                # Heun's step into a level evaluates the network there
                first = max(place - 1, 0)
                guided = Guided(self.own, self.guide, AtLevels(levels[place : place + 1], weight))
                *_, final = SAMPLER.steps(guided, EDM, states[first].clone(), times[first:])
                for name, each in scores(self.guidance, self.label, final).items():
                    found[name].append(each.cpu().numpy())
        return rest, {name: np.stack(each, 1) for name, each in found.items()}


def pulsed(
    guidance: Guidance, weight: float, widths: Array
) -> tuple[dict[str, Curve], dict[str, Array], dict[str, Array]]:
    """Return the curves of pulses, the alignment of unguided trials and of those with pulses."""
    parts, evaluations = [], 0
    for each in Class.all(guidance):
        parts.append(each.ways(weight))
        evaluations += each.evaluations
    rest, pushed = ({name: np.concatenate([part[i][name] for part in parts]) for name in ALIGNMENTS} for i in (0, 1))
    gains = {name: (pushed[name] - rest[name][:, None]) / (weight * widths) for name in ALIGNMENTS}
    return {name: Curve(gain, evaluations) for name, gain in gains.items()}, rest, pushed


def swept(
    guidance: Guidance, name: str, widths: Array, at: Callable[[Class], Iterator[tuple[Tensor, Tensor]]]
) -> Curve:
    """Return the curve of sweeps at some points of each trial's way, each with its share of the integral."""
    gains, evaluations = [], 0
    for each in Class.all(guidance):
        gains.append(sum(part * each.sweep(weights, name) for weights, part in at(each)).cpu().numpy())  # type: ignore[union-attr]
        evaluations += each.evaluations
    return Curve(np.concatenate(gains) / widths, evaluations)


def ones(each: Class) -> Tensor:
    return torch.ones(len(each.x), len(each.guidance.levels), dtype=torch.float64, device=each.x.device)


def at_rest(each: Class) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield no guidance."""
    yield 0 * ones(each), ones(each)


def at_nodes(each: Class) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the four nodes of Gauss-Legendre's rule along the way."""
    for place, part in zip(*np.polynomial.legendre.leggauss(4), strict=True):
        yield each.guidance.config.weight * (1 + place) / 2 * ones(each), part / 2 * ones(each)


def at_random(each: Class) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one point u = v^2 of each trial's way, v stratified over the trials of a class; du = 2 v dv."""
    trials = len(each.x)
    draw = torch.Generator().manual_seed(each.label)
    v = (torch.randperm(trials, generator=draw) + torch.rand(trials, generator=draw, dtype=torch.float64)) / trials
    v = v[:, None].to(each.x.device)
    yield each.guidance.config.weight * v.square() * ones(each), 2 * v * ones(each)


def ends(mean: Array, levels: Array, edges: Array) -> Array:
    """Return the ends of the shortest interval of 80 % of a curve, in log sigma."""
    gain = mean * -np.diff(np.log(edges))
    found = shortest(np.concatenate([[0.0], np.cumsum(math.copysign(1.0, gain.sum()) * gain)]), edges, SHARE)
    return np.log([found.low, found.high])


class Errors(NamedTuple):
    """What a curve costs and how sure it is."""

    per_trial: float
    curve: float
    ends: float
    for_curve: float
    for_ends: float


def errors(curve: Curve, guidance: Guidance) -> Errors:
    """Return the standard errors of a curve by bootstrap, and the evaluations for 10 % and for 0.5 in log sigma."""
    count = len(curve.gain)
    levels = guidance.levels.cpu().numpy()
    groups = np.repeat(range(len(guidance.labels)), guidance.config.trials).tolist()
    means = np.stack([curve.gain[draw].mean(0) for draw in bootstrap_draws(count, groups, 400)])
    with np.errstate(invalid="ignore"):
        # a level at which no trial gains has no relative error
        relative = float(np.nanmedian(means.std(0, ddof=1) / np.abs(curve.gain.mean(0))))
    places = np.stack([ends(mean, levels, edges_of(levels)) for mean in means])
    # ends are found on a grid, so that less than its spacing is not known of them
    wide = max(float(np.nanstd(places, axis=0, ddof=1).mean()), float(np.log(levels[:-1] / levels[1:]).mean()) / FINE)
    return Errors(
        curve.evaluations / count, relative, wide,
        curve.evaluations * (relative / 0.1) ** 2, curve.evaluations * (wide / 0.5) ** 2,
    )  # fmt: skip


def report(title: str, guidance: Guidance) -> None:
    """Measure everything of one network and print it."""
    config, levels = guidance.config, guidance.levels.cpu().numpy()
    widths = -np.diff(np.log(edges_of(levels)))
    exact = guidance.dtype == torch.float64
    print(f"\n{title}: {len(guidance.labels)} classes x {config.trials}, {config.steps} levels, w = {config.weight:g}")
    print(" | ".join(HEAD))
    strong, rest, pushed = pulsed(guidance, config.weight, widths)
    weak = pulsed(guidance, WEAK, widths)[0] if exact else None
    for name in ALIGNMENTS if exact else ALIGNMENTS[:2]:
        begun = swept(guidance, name, widths, at_rest)
        # in float32 weak pulses would be rounding: they have the spread of their limit, at the price of pulses
        limit = Curve(begun.gain, strong[name].evaluations) if weak is None else weak[name]
        rows = {"pulses, w -> 0": limit, "sweeps, w -> 0": begun, "pulses at w": strong[name],
                "sweeps to w, one point a trial": swept(guidance, name, widths, at_random)}  # fmt: skip
        if exact:
            rows["sweeps to w, four points"] = swept(guidance, name, widths, at_nodes)
        found = {method: errors(curve, guidance) for method, curve in rows.items()}
        for method, each in found.items():
            against = found["pulses, w -> 0" if "0" in method else "pulses at w"]
            print(
                f"{name} | {method} | {each.per_trial:.0f} | {100 * each.curve:.1f} % | {each.ends:.2f} | "
                f"{each.for_curve:.3g} | {each.for_ends:.3g} | {against.for_curve / each.for_curve:.2f} | "
                f"{against.for_ends / each.for_ends:.2f}"
            )
        print(f"{name}: {reductions(guidance, name, begun, rest[name], pushed[name])}")


def reductions(guidance: Guidance, name: str, begun: Curve, rest: Array, pushed: Array) -> str:
    """Return by how much the variance of a trial falls: by antithetic starts, common noise, and a control variate."""
    mirrored = [each.sweep(0 * ones(each), name, -each.x).cpu().numpy() for each in Class.all(guidance)]
    widths = -np.diff(np.log(edges_of(guidance.levels.cpu().numpy())))
    pairs = (begun.gain + np.concatenate(mirrored) / widths) / 2
    antithetic = float(begun.gain.var(0).sum() / (2 * pairs.var(0).sum()))
    apart = pushed - rest[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        twins = float(np.nanmedian((pushed.var(0) + rest.var()) / apart.var(0)))
    # of what the response is like where a sample is undecided, known at the price of sampling it
    doubt = rest * (1 - rest) if name == "probability" else SURE**2 - np.minimum(rest**2, SURE**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = float(np.nanmedian([np.corrcoef(doubt, gain)[0, 1] ** 2 for gain in begun.gain.T]))
    price = (2 * len(guidance.levels) - 1) / (begun.evaluations / len(rest))
    control = 1 / (math.sqrt(1 - shared) + math.sqrt(shared * price)) ** 2
    return (
        f"times fewer trials by antithetic starts {antithetic:.2f}, by common noise of twins {twins:.1f}; times fewer "
        f"evaluations by a control variate {control:.2f} (R^2 = {shared:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="mixture, or a shipped network with classes")
    parser.add_argument("--trials", type=int, default=400, help="of each class")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--weight", type=float, default=2.0)
    parser.add_argument("--small", action="store_true", help="few trials and steps, to see that it works")
    chosen = parser.parse_args()
    trials, steps = (6, 5) if chosen.small else (chosen.trials, chosen.steps)
    config = Config(model=chosen.model, trials=trials, steps=steps, weight=chosen.weight)
    if chosen.model == "mixture":
        for distance in (1.0, 3.0):
            report(f"mixture, |mu| = {distance:g}", mixture(distance, config))
    else:
        report(chosen.model, find_guidance(config, {}))


if __name__ == "__main__":
    main()
