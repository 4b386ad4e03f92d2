r"""What a pulse of guidance does to the probability flow of Gaussian classes, without simulation.

The guided flow of `exact.mixture` in EDM coordinates is

$$ \frac{dx}{d\sigma} = \frac{x - D_c - w(\sigma)(D_c - D_{\mathrm{guide}})}{\sigma}. $$

Two classes of means +mu and -mu, equal probability and spread s, guided away from their mixture, reduce to one
equation. With $M = |\mu|$ and $p = \langle\mu, x\rangle/M$, let

$$ y = \frac{M}{\sqrt{s^2 + \sigma^2}}, \qquad \zeta = \frac{p - M}{\sqrt{s^2 + \sigma^2}}. $$

The log-odds are $\log\frac{p(+ \mid x)}{p(- \mid x)} = 2(y^2 + \zeta y)$, and the flow of class + is

$$ \frac{d\zeta}{dy} = w\,[1 - \tanh(y^2 + \zeta y)], $$

y rising along it. Unguided, zeta is conserved. The unguided mixture loses stability at x = 0 where y = 1.
Two classes about any midpoint are the same once it is subtracted.
"""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import quad_vec
from scipy.special import expit
from torch import Tensor

from softmode.rounding import within

# standard deviations beyond which a standard normal's weight is below float64's smallest relative step
TAIL = 12.0


@runtime_checkable
class Pulse(Protocol):
    """Guidance of constant weight between two noise levels, such as `guidance.weights.Interval`."""

    @property
    def low(self) -> float:
        """Lower end, sigma/alpha."""
        ...

    @property
    def high(self) -> float:
        """Upper end, above it."""
        ...

    @property
    def weight(self) -> float:
        """Weight w between them."""
        ...


def class_flow(x: Tensor, mean: Tensor, spread: float, sigma_from: float, sigma_to: float) -> Tensor:
    r"""Return the state to which the unguided flow of one class carries x.

    $x(\sigma_1) = \mu_c + \sqrt{\frac{s^2 + \sigma_1^2}{s^2 + \sigma_0^2}}\,(x(\sigma_0) - \mu_c)$.

    Args:
        x: States at sigma_0 in EDM coordinates [batch, channel, *space].
        mean: Class mean mu_c [channel, *space].
        spread: Standard deviation s > 0 of every coordinate within the class.
        sigma_from: Noise level sigma_0.
        sigma_to: Noise level sigma_1; 0 gives samples.

    Returns:
        States at sigma_1, of the shape of x.

    Raises:
        ValueError: If the spread is not positive and finite, or a noise level is negative or not finite.

    Source: paper G.1, integrated.
    """
    _check_positive("spread", spread)
    for name, sigma in (("sigma_from", sigma_from), ("sigma_to", sigma_to)):
        if not 0 <= sigma < math.inf:
            raise ValueError(f"{name}: got {sigma:g}; expected a finite noise level of at least 0")
    mean = mean.to(x)
    return mean + math.hypot(spread, sigma_to) / math.hypot(spread, sigma_from) * (x - mean)


def pulse_factor(pulse: Pulse, spread: float, guide_spread: float) -> float:
    r"""Return the factor by which a pulse scales the deviation from the class mean, for a guide of another spread.

    Both denoisers are those of one Gaussian class of mean mu_c, the guide's of spread s_g: a caricature of guidance by
    a worse model of the same class. With $D - D_{\mathrm{guide}} = (g - g_g)(x - \mu_c)$, $g = s^2/(s^2 + \sigma^2)$
    and the pulse on (l, h],

    $$ \frac{x - \mu_c}{(x - \mu_c)_{w=0}} = \exp\left(w\int_l^h(g - g_g)\,\frac{d\sigma}{\sigma}\right)
    = \left[\frac{(s_g^2 + h^2)(s^2 + l^2)}{(s^2 + h^2)(s_g^2 + l^2)}\right]^{w/2} $$

    at any noise level below the pulse. A broader guide (s_g > s) contracts samples towards the mean.

    Args:
        pulse: The pulse; its weight need not be small, and its ends may be 0 and infinity.
        spread: Standard deviation s > 0 within the class.
        guide_spread: Standard deviation s_g > 0 of the guide.

    Returns:
        The factor (dimensionless), 1 for w = 0.

    Raises:
        ValueError: If a spread is not positive and finite.

    Source: paper H.1, integrated.
    """
    _check_positive("spread", spread)
    _check_positive("guide_spread", guide_spread)
    excess = guide_spread**2 - spread**2
    high, low = (math.log1p(excess / (spread**2 + sigma**2)) for sigma in (pulse.high, pulse.low))
    return math.exp(0.5 * pulse.weight * (high - low))


class PulseResponse(NamedTuple):
    """Change of the projection <mu, x>/|mu| and of the class log-odds (nats), [batch] each."""

    projection: Tensor
    log_odds: Tensor


def pulse_response(
    pulse: Pulse,
    projection: Float[Tensor, " batch"],
    mean_norm: float,
    spread: float,
    sigma_max: float,
    sigma_end: float = 0.0,
) -> PulseResponse:
    r"""Return what a weak pulse changes at the end of each trajectory of class +, to first order in its weight.

    $$ \delta p = w\sqrt{s^2 + \sigma_{\mathrm{end}}^2}\int_{\mathrm{low}}^{\mathrm{high}}
    \frac{\sigma M}{(s^2 + \sigma^2)^{3/2}}\left[1 - \tanh\frac{M p_0(\sigma)}{s^2 + \sigma^2}\right]d\sigma,
    \qquad \delta\log\frac{p(+ \mid x)}{p(- \mid x)} = \frac{2M\,\delta p}{s^2 + \sigma_{\mathrm{end}}^2}, $$

    with p_0 the unguided path. The integral is $\int[1 - \tanh(y^2 + \zeta y)]\,dy$ at the conserved zeta.

    Args:
        pulse: The pulse, between sigma_end and sigma_max.
        projection: Initial projections <mu, x>/|mu| at sigma_max, [batch].
        mean_norm: M = |mu| > 0, half the distance of the two means.
        spread: Standard deviation s > 0 of every coordinate within a class.
        sigma_max: Noise level at which the flow starts.
        sigma_end: Noise level at which it is read; 0, the samples, unless said otherwise.

    Returns:
        Changes at sigma_end against the unguided flow, float64. Class - answers alike, with the signs reversed.

    Raises:
        ValueError: If mean_norm or spread is not positive and finite, or the levels are not ordered
            0 <= sigma_end <= low < high <= sigma_max.

    Source: paper H.1, to first order in w.
    """
    _check_model(mean_norm, spread, sigma_max, sigma_end)
    if not all(within(level, sigma_end, sigma_max) for level in (pulse.low, pulse.high)):
        raise ValueError(
            f"pulse: got ({pulse.low:g}, {pulse.high:g}]; expected it between sigma_end = {sigma_end:g} and "
            f"sigma_max = {sigma_max:g}"
        )
    zeta = (projection.double().cpu().numpy() - mean_norm) / math.hypot(spread, sigma_max)

    def integrand(log_y: float) -> np.ndarray:
        y = math.exp(log_y)
        return 2 * y * expit(-2 * (y**2 + zeta * y))

    # in log y the integrand is as wide as the range, whatever the spread
    ends = (math.log(mean_norm / math.hypot(spread, sigma)) for sigma in (pulse.high, pulse.low))
    shift, _ = quad_vec(integrand, *ends, epsabs=1e-14, epsrel=1e-11, norm="max")
    width = math.hypot(spread, sigma_end)
    change = torch.from_numpy(pulse.weight * width * shift)
    return PulseResponse(change, 2 * mean_norm / width**2 * change)


def susceptibility(
    sigma: Float[Tensor, "*level"], mean_norm: float, spread: float, sigma_max: float, sigma_end: float = 0.0
) -> Float[Tensor, "*level"]:
    r"""Return the mean response of the class log-odds to guidance at one noise level.

    $$ \chi(\sigma) = \frac{\langle d\log[p(+ \mid x)/p(- \mid x)]\rangle}{w\,d\ln\sigma}
    = \frac{2M^2\sigma^2}{\sqrt{s^2 + \sigma_{\mathrm{end}}^2}\,(s^2 + \sigma^2)^{3/2}}
    \left\langle 1 - \tanh\frac{M p_0(\sigma)}{s^2 + \sigma^2}\right\rangle, $$

    over the initial noise $x \sim \mathcal{N}(0, \sigma_{\max}^2)$. The same weight over a window of levels changes the
    log-odds by $w\int\chi\,d\ln\sigma$. For $s \ll M \ll \sigma_{\max}$ it is a function of $y = M/\sigma$ alone,
    $\chi \propto y\langle 1 - \tanh(y^2 + \zeta y)\rangle$ with $\zeta \sim \mathcal{N}(0, 1)$, and largest at
    $\sigma = 1.2223\,M$: above the critical level, where it has 96 % of its maximum.

    Args:
        sigma: Noise levels between sigma_end and sigma_max, any shape.
        mean_norm: M = |mu| > 0, half the distance of the two means.
        spread: Standard deviation s > 0 of every coordinate within a class.
        sigma_max: Noise level at which the flow starts.
        sigma_end: Noise level at which the log-odds are read; 0, the samples, unless said otherwise.

    Returns:
        chi in nats per unit weight and unit log noise level, float64, of the shape of sigma.

    Raises:
        ValueError: If mean_norm or spread is not positive and finite, or a level is outside
            0 <= sigma_end <= sigma <= sigma_max.

    Source: paper H.1, to first order in w, averaged over initial states.
    """
    _check_model(mean_norm, spread, sigma_max, sigma_end)
    sigma = sigma.double()
    if not bool(within(sigma, sigma_end, sigma_max).all()):
        raise ValueError(
            f"sigma: got {sigma.flatten().tolist()[:4]}...; expected levels from {sigma_end:g} to {sigma_max:g}"
        )
    width = (spread**2 + sigma.square()).sqrt()
    start = math.hypot(spread, sigma_max)
    offset, scale = -mean_norm / start, sigma_max / start
    uncertainty = [_mean_excess(float(y), offset, scale) for y in (mean_norm / width).flatten()]
    average = torch.tensor(uncertainty, dtype=torch.float64).reshape(sigma.shape)
    prefactor = 2 * mean_norm**2 / math.hypot(spread, sigma_end)
    return prefactor * sigma.square() / width.pow(3) * average.to(sigma)


def critical_level(mean_norm: float, spread: float) -> float:
    r"""Return the noise level at which the mixture of +mu and -mu loses stability at x = 0, $s^2 + \sigma^2 = |\mu|^2$.

    Args:
        mean_norm: M = |mu| > 0, half the distance of the two means.
        spread: Standard deviation s > 0 of every coordinate within a class.

    Returns:
        EDM noise level; NaN where M <= s: the score never loses stability above sigma = 0.

    Raises:
        ValueError: If mean_norm or spread is not positive and finite.

    Source: paper Sec. 3, r(t) = 0 in Eq. 4, for classes of finite width.
    """
    _check_positive("mean_norm", mean_norm)
    _check_positive("spread", spread)
    return math.sqrt(mean_norm**2 - spread**2) if mean_norm > spread else math.nan


def _mean_excess(y: float, offset: float, scale: float) -> float:
    """Return the mean of 1 - tanh(y^2 + zeta y) over zeta ~ N(offset, scale^2)."""
    # 1 - tanh a = exp(-a) sech a, and exp(-a) only shifts the normal: sech is left, free of cancellation
    drift, slope = y**2 + offset * y, scale * y
    centre = drift - slope**2

    def integrand(z: float) -> float:
        distance = abs(centre + slope * z)
        return math.exp(0.5 * (slope**2 - z**2) - drift - distance) * 2 / (1 + math.exp(-2 * distance))

    # the exponent is largest at the peak of sech or, if that is farther, at z = +-slope
    reach = slope + TAIL
    peak = min(max(-centre / slope, -reach), reach)
    total, _ = quad_vec(integrand, -reach, reach, points=[peak], epsabs=1e-300, epsrel=1e-11)
    return total / math.sqrt(2 * math.pi)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: got {value:g}; expected a positive finite number")


def _check_model(mean_norm: float, spread: float, sigma_max: float, sigma_end: float) -> None:
    _check_positive("mean_norm", mean_norm)
    _check_positive("spread", spread)
    if not 0 <= sigma_end < sigma_max < math.inf:
        raise ValueError(f"sigma_end: got {sigma_end:g}; expected 0 <= sigma_end < sigma_max = {sigma_max:g}")
