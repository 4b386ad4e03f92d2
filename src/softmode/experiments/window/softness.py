"""The paper's criterion: the peak of xi_eq, and how often a Gaussian without any transition has one as high."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from softmode.critical import fit_dispersion, highest_window, peak_windows, prominences
from softmode.estimate import Array, Estimate, bootstrap, bootstrap_draws, median
from softmode.exact.gaussian import GaussianDenoiser, null_model
from softmode.observe.gains import ModeGains, exact_gains
from softmode.observe.state import State
from softmode.process import VE
from softmode.runs.resolved import resolved, resolved_times
from softmode.runs.run import Run
from softmode.streams import null_data_seed

Intercept = Literal["constant mode", "free"]

# simulated probes of the null model, and resamples of the model's own
NULLS, RESAMPLES = 99, 200
# fewest levels among which a peak can be looked for
LEAST_LEVELS = 8
# sites of all states of the null that are measured at once
AT_ONCE = 2_000_000


class Peak(NamedTuple):
    """A peak of the median softness.

    Attributes:
        sigma_c: Its noise level; undefined where there is none.
        low: Lower end of its window.
        high: Upper end.
        p: Probability that a probe of the Gaussian null model shows a peak as high; NaN without a null or a peak.
    """

    sigma_c: Estimate
    low: Estimate
    high: Estimate
    p: float


def softness(run: Run, intercept: Intercept = "constant mode") -> Array:
    """Return the convention-free softness log(1 + xi_eq^2) of every trajectory, [trajectory, time].

    Args:
        run: A probe.
        intercept: Whether the fit of Eq. 69 uses the constant mode, or only shells n >= 1.
    """
    return softness_of(run.dataset["gain"].to_numpy(), run.dataset["k"].to_numpy(), intercept)


def softness_of(gain: Array, k: Array, intercept: Intercept) -> Array:
    """Return the softness of gains [..., shell, axis] at wavenumbers k [shell, axis], [...]."""
    return fit_dispersion(1 - gain, k, intercept).softness(math.pi / k[1].min())


def critical_window(curves: Array, levels: Array) -> tuple[Estimate, Estimate, Estimate]:
    """Estimate (sigma_c, sigma_lo, sigma_hi): the highest peak of the median softness and its window.

    A resample's window is that of its peak nearest to the median's own, if it is not nearer to another of these.

    Args:
        curves: Softness [trajectory, level].
        levels: Falling noise levels [level].

    Source: paper G.7 and H.3; the window is ours, at half the prominence.
    """
    centre = median(curves)
    reference, every = highest_window(centre, levels), peak_windows(centre, levels)
    if np.isnan(reference[0]):
        none = Estimate.missing(len(curves), "the median xi_eq has no peak that stands out")
        return none, none, none

    def statistic(curve: Array) -> Array:
        found = peak_windows(curve, levels)
        if curve is not centre and len(found):
            nearest = found[np.abs(np.log(found[:, 0] / reference[0])).argmin()]
            of = every[np.abs(np.log(every[:, 0] / nearest[0])).argmin()]
            found = nearest[None] if of[0] == reference[0] else found[:0]
        if curve is centre:
            found = reference[None]
        return found[0] if len(found) else np.full(3, np.nan)

    sigma_c, high, low = bootstrap(curves, statistic, centre=lambda rows: centre if rows is curves else median(rows))
    return sigma_c, low, high


def peak_of(
    run: Run, levels: Array, intercept: Intercept, null: Float[Array, "null trajectory time shell axis"] | None
) -> Peak:
    """Return the highest peak of a probe's median softness, by one of the fits of xi_eq, where 1 - G is resolved.

    Args:
        run: The probe.
        levels: Its noise levels.
        intercept: How xi_eq is fitted.
        null: Gains of `simulated_null`.
    """
    k = run.dataset["k"].to_numpy()
    seen = resolved_times(run, intercept)
    if seen < LEAST_LEVELS:
        lost = Estimate.missing(run.dataset.sizes["trajectory"], "1 - G is lost in its error")
        return Peak(lost, lost, lost, math.nan)
    curves, levels = softness(run, intercept)[:, :seen], levels[:seen]
    sigma_c, low, high = critical_window(curves, levels)
    if null is None or math.isnan(sigma_c.value):
        return Peak(sigma_c, low, high, math.nan)
    heights = []
    for gain in null:
        own = min(resolved(fit_dispersion(1 - gain, k, intercept).rate), seen)
        curve = median(softness_of(gain[:, :own], k, intercept))
        heights.append(prominences(curve, levels[:own]).max() if own >= LEAST_LEVELS else 0.0)
    return Peak(sigma_c, low, high, p_value(curves, levels, sigma_c.value, np.array(heights)))


def p_value(
    curves: Float[Array, "trajectory level"], levels: Float[Array, " level"], peak: float, null: Float[Array, " null"]
) -> float:
    """Return how probable a peak as high is without any transition, averaged over resamples of the trajectories.

    A resample's peak is that within half a unit of log sigma of the peak; one that has lost it counts as one that the
    null always has.

    Args:
        curves: Softness of every trajectory.
        levels: Falling noise levels.
        peak: Level of the median's peak.
        null: Highest prominence in each simulated probe of the null model, 0 without a peak.

    Source: parametric bootstrap, efron1993.
    """
    near = np.abs(np.log(levels / peak)) < 0.5
    found = []
    for draw in bootstrap_draws(len(curves), resamples=RESAMPLES):
        height = float(np.where(near, prominences(median(curves[draw]), levels), 0.0).max())
        found.append((1 + (null >= height).sum()) / (1 + len(null)))
    return float(np.mean(found))


def simulated_null(run: Run, levels: Array) -> Float[Array, "null trajectory time shell axis"] | None:
    """Return the gains of repeated probes of the Gaussian null model, as the run measures its model's.

    The same estimator with the same step, signs, floating type and number of trajectories, at fields of the null with
    noise. Its spectrum is that of the data where the run has it, else that of its samples.
    """
    null, _ = null_of(run)
    if null is None:
        return None
    config, count = run.config, run.dataset.sizes["trajectory"]
    dtype, stream = getattr(torch, config["dtype"]), torch.Generator().manual_seed(null_data_seed(config["seed"]))
    gains = ModeGains(int(config["shells"]), config["method"], seed=int(config["seed"]))
    null = GaussianDenoiser(null.spectrum)
    at_once = max(1, AT_ONCE // (count * null.spectrum.numel()))
    found = []
    for begin in range(0, NULLS, at_once):
        several = min(at_once, NULLS - begin)
        clean = null.sample(several * count, stream)
        noise = torch.randn(clean.shape, generator=stream, dtype=clean.dtype)
        probes = []
        for place, sigma in enumerate(levels.tolist()):
            x = (clean + sigma * noise).to(dtype)
            at = State(null, VE(), x, VE().time(sigma), place, list(range(count)) * several)
            probes.append(gains(at)["gain"].double().numpy())
        found.append(np.stack(probes, 1).reshape(several, count, len(levels), *probes[0].shape[1:]))
    return np.concatenate(found)


def null_of(run: Run) -> tuple[GaussianDenoiser | None, str]:
    """Return the Gaussian null of a probe, and where its spectrum is from: data, samples or none.

    Without data of the model's it is the spectrum of the run's own samples, D(x) at the last snapshot.
    """
    data = run.dataset
    if "null_spectrum" in data:
        return GaussianDenoiser(torch.from_numpy(data["null_spectrum"].to_numpy())), "data"
    samples = torch.from_numpy(data["denoised"].isel(snapshot=-1).to_numpy())
    if run.config["states"] != "reverse" or len(samples) < 2:
        return None, "none"
    return null_model(samples), "samples"


def null_softness(run: Run, levels: Array, intercept: Intercept = "constant mode") -> tuple[Array | None, str]:
    """Return the softness of the Gaussian null in closed form [level], and where its spectrum is from."""
    null, origin = null_of(run)
    if null is None:
        return None, origin
    x = torch.zeros(1, *run.identity["model"]["shape"], dtype=torch.float64)
    gain = torch.cat([exact_gains(null, x, sigma, int(run.config["shells"])) for sigma in levels]).numpy()
    return softness_of(gain, run.dataset["k"].to_numpy(), intercept), origin
