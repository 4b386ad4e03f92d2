r"""Mode gains $G_k = v\cdot(dD/dx)\,v$ along unit Fourier modes: closed form, differences, forward AD or multiplexed.

All return [batch, shell, axis]; the cosine and the sine of a shell are averaged. On a multi-channel state a mode moves
all channels together or, with `by_channel`, one channel at a time: the result is then [batch, shell, axis, channel,
channel], how much of a push in one channel (last) comes back in each channel. `luminance_and_chroma` reads that matrix.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import hadamard
from torch import Tensor

from softmode.denoiser import Denoiser, ExactDenoiser, per_sample
from softmode.lattice import Lattice
from softmode.observe.state import State, Variable
from softmode.process import VP

Method = Literal["multiplexed", "difference", "jvp", "exact"]
# measured times from one at which gains are measured with two steps to the next
STEPPED = 4
GAIN_CHANGE = "gain with twice the step less that with one; NaN at three of four times, and of derivatives"
# what a denoiser answered to a push, and the displacement that was really made
Pair = tuple[Tensor, Tensor]


def exact_gains(
    denoiser: ExactDenoiser, x: Tensor, sigma: Tensor | float, shells: int
) -> Float[Tensor, "batch shell axis"]:
    """Return the gains of shells 0..shells from the denoiser's closed form.

    Args:
        denoiser: A denoiser with a `dispersion` method.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.

    Source: paper Eq. 7 and the line below it.
    """
    return denoiser.dispersion(x, sigma, Lattice.of(x).shell_vectors(shells))


def paper_step(sigma: Tensor | float) -> Tensor:
    r"""Return the paper's adaptive difference step in EDM coordinates, $\max(5\cdot10^{-5}, 10^{-3}s^2)/\alpha$.

    The VP state's $s^2 = \sigma^2/(1+\sigma^2)$ and $\alpha^2 = 1/(1+\sigma^2)$; the step is the largest displacement
    of a site.

    Source: paper E.8.
    """
    vp = VP()
    t = vp.time(sigma)
    return (1e-3 * vp.sigma(t).square()).clamp(min=5e-5) / vp.alpha(t)


def probe_step(x: Float[Tensor, "batch channel *space"], sigma: Tensor | float) -> Float[Tensor, " batch"]:
    r"""Return the paper's step, or a larger one where single precision asks for it (data units).

    Rounding makes an error of $\epsilon|x|/h$ in a gain, the curvature of D one of $(h/\sigma)^2$: they balance near
    $h = \frac13(\epsilon|x|\sigma^2)^{1/3}$, where $|x|$ is the rms of the state and $\epsilon$ half the spacing at 1.
    In double precision the paper's step is the larger one.
    """
    scale = x.detach().double().flatten(1).square().mean(1).sqrt()
    rounding = 0.5 * torch.finfo(x.dtype).eps * scale
    level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
    return torch.maximum(paper_step(level), (rounding * level.square()).pow(1 / 3) / 3)


def difference_gains(
    denoiser: Denoiser,
    x: Tensor,
    sigma: Tensor | float,
    shells: int,
    step: Tensor | float | None = None,
    by_channel: bool = False,
) -> Float[Tensor, "batch shell axis *channels"]:
    r"""Return the gains of shells 0..shells by central differences.

    $G = v\cdot[D(x_+) - D(x_-)] / v\cdot[x_+ - x_-]$ with $x_\pm = x \pm \epsilon v$ as floating point makes them: in
    single precision the displacement that is made differs from $2\epsilon v$ by more than 1 - G at low noise.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.
        step: Largest displacement of a site in EDM coordinates, scalar or [batch]; `probe_step(x, sigma)` when omitted.
            The error is of second order in it: about 1e-4 relative on a 5x5 patch model at the paper's step.
        by_channel: Whether to push one channel at a time.

    Source: paper Eq. 64, divided by v.v (as printed it is unnormalised).
    """
    step = per_sample(probe_step(x, sigma) if step is None else step, x).to(x.dtype)

    def response(mode: Tensor, pushed: Tensor) -> Pair:
        peak = math.sqrt((1 if bool((mode == mode.flatten()[0]).all()) else 2) / mode.numel())
        shift = step * (mode / peak) * pushed
        above, below = x + shift, x - shift
        return denoiser(above, sigma) - denoiser(below, sigma), above - below

    return _project(response, x, shells, by_channel)


def jvp_gains(
    denoiser: Denoiser, x: Tensor, sigma: Tensor | float, shells: int, by_channel: bool = False
) -> Float[Tensor, "batch shell axis *channels"]:
    """Return the gains of shells 0..shells by forward-mode automatic differentiation of the denoiser.

    Args:
        denoiser: Any denoiser that forward-mode AD can go through.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.
        by_channel: Whether to push one channel at a time.
    """

    def response(mode: Tensor, pushed: Tensor) -> Pair:
        push = (mode * pushed).expand_as(x)
        return torch.func.jvp(lambda z: denoiser(z, sigma), (x,), (push,))[1], push

    return _project(response, x, shells, by_channel)


def multiplexed_gains(
    denoiser: Denoiser,
    x: Tensor,
    sigma: Tensor | float,
    shells: int,
    signs: Float[Tensor, "batch mode"],
    step: Tensor | float | None = None,
    by_channel: bool = False,
) -> Float[Tensor, "batch shell axis *channels"]:
    r"""Return the gains of shells 0..shells from two central differences: one of the constant mode, one of all others.

    All other modes are pushed at once, with signs $s_m$, and the response is projected back on each,
    $\hat G_m = s_m v_m\cdot J \sum_{m'} s_{m'} v_{m'} = G_m + \sum_{m'\neq m} s_m s_{m'}\,v_m\cdot J v_{m'}$:
    unbiased where the products of different signs average to zero, as those of `mode_signs` do. Four network
    evaluations per state, against 2 + 8 per shell in two dimensions for `difference_gains`.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.
        signs: ±1 for every state and every mode of shells 1..shells, in the order shell, axis, phase.
        step: Largest displacement of a site by one mode; `probe_step(x, sigma)` when omitted.
        by_channel: Whether to push one channel at a time.
    """
    step = per_sample(probe_step(x, sigma) if step is None else step, x).to(x.dtype)
    lattice = Lattice.of(x)
    modes = lattice.modes(shells, x.dtype, x.device)
    others = modes[1:].flatten(0, 2).flatten(1)
    signs = signs.to(x).unsqueeze(1)
    # each mode has the amplitude 1 in a push, hence the norm sqrt(N / 2)
    amplitude = math.sqrt(lattice.sites / 2)

    def response(push: Tensor, pushed: Tensor) -> tuple[Tensor, Tensor]:
        shift = step * push.unflatten(-1, lattice.shape) * pushed
        above, below = x + shift, x - shift
        answer, made = denoiser(above, sigma) - denoiser(below, sigma), above - below
        return answer.flatten(2).double(), made.flatten(2).double()

    columns = []
    for pushed in _pushes(x, by_channel):
        column = x.new_empty(len(x), *modes.shape[:3], x.shape[1])
        answer, made = response(x.new_ones(1, 1, lattice.sites), pushed)
        column[:, 0] = (answer.mean(2) / _of_pushed(made.mean(2), pushed))[:, None, None]
        if shells:
            answer, made = (each @ others.T.double() for each in response(amplitude * signs @ others, pushed))
            gain = answer / _of_pushed(made, pushed)
            column[:, 1:] = gain.mT.unflatten(1, modes[1:].shape[:3])
        columns.append(column.mean(3))
    return _gains(columns, by_channel)


def mode_signs(modes: int, trajectories: Sequence[int], time: int, seed: int) -> Float[Tensor, "trajectory mode"]:
    r"""Return the signs with which `multiplexed_gains` pushes the modes of some states, [trajectory, mode].

    They are rows of a Hadamard matrix of order n >= modes. Which row a state gets is random, so that products of
    different modes' signs average to zero; beyond that, they cancel exactly over any n consecutive measured times, and
    over n trajectories at one time, as far as the crosstalk is the same there.

    Args:
        modes: Number of modes.
        trajectories: Global index of each trajectory of the batch.
        time: Index of the measured time.
        seed: Seed of the run.

    Source: hotelling1944, the signs of a weighing design.
    """
    order = 1 << max(modes - 1, 1).bit_length()
    rng = np.random.default_rng([seed, order])
    column, offset = rng.permutation(order)[:modes], int(rng.integers(order))
    # bits reversed, so that neighbouring times differ in what neighbouring trajectories have in common
    width = order.bit_length() - 1
    turn = int(f"{time % order:0{width}b}"[::-1], 2)
    rows = [(i % order) ^ turn ^ offset for i in trajectories]
    return torch.from_numpy(hadamard(order)[np.ix_(np.array(rows), column)]).double()


def luminance_and_chroma(
    gains: Float[Tensor, "*batch channel channel"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""Return the gain of the luminance direction, and the mean gain of the directions across it.

    A push of all channels alike, along $u = (1, ..., 1)/\sqrt C$, changes the luminance and no colour; its gain is
    $u\cdot M u$. What is left of the trace belongs to the C - 1 directions of colour.

    Args:
        gains: Gains by channel M [..., channel, channel].

    Source: paper G.3 and G.5, whose modes move all channels alike.
    """
    channels = gains.shape[-1]
    luminance = gains.sum((-1, -2)) / channels
    return luminance, (gains.diagonal(dim1=-2, dim2=-1).sum(-1) - luminance) / (channels - 1)


def mode_field(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch field *space"]:
    """Return the field whose modes are probed: of RGB states what all channels share, else the channels as they are.

    It has the norm of the states' part along equal channels, so that its spectrum bounds the luminance gain.
    """
    return x.sum(1, keepdim=True) / math.sqrt(3) if x.shape[1] == 3 else x


def evaluations(method: str, shells: int, dimensions: int, channels: int = 1) -> int:
    """Return the network evaluations that one state's gains cost; a forward-mode derivative counts as one.

    Args:
        method: `multiplexed`, `difference` or `jvp`.
        shells: Highest shell.
        dimensions: Axes of the lattice.
        channels: Channels that are pushed one at a time; 1 where all are pushed together.
    """
    modes = 1 + 2 * dimensions * shells
    return channels * {"multiplexed": 4 if shells else 2, "difference": 2 * modes, "jvp": modes}[method]


def all_evaluations(method: str, shells: int, dimensions: int, channels: int, times: int) -> int:
    """Return the evaluations of one trajectory's gains at all measured times, those with two steps included."""
    twice = 0 if method == "jvp" else -(-times // STEPPED)
    return (times + twice) * evaluations(method, shells, dimensions, channels)


def _pushes(x: Tensor, by_channel: bool) -> Tensor:
    """Return which channels each push moves, [push, channel, 1...]: all of them, or one at a time."""
    rows = torch.eye(x.shape[1]) if by_channel else torch.ones(1, x.shape[1])
    return rows.to(x).reshape(*rows.shape, *[1] * (x.ndim - 2))


def _gains(columns: Sequence[Tensor], by_channel: bool) -> Tensor:
    """Return gains from the channels' responses to each push [batch, shell, axis, channel]."""
    # a push of all channels has norm sqrt(channel): divide once by its square
    return torch.stack(list(columns), -1) if by_channel else columns[0].mean(-1)


def _of_pushed(made: Float[Tensor, "batch channel *mode"], pushed: Tensor) -> Float[Tensor, "batch 1 *mode"]:
    """Return the mean displacement of the channels that were pushed."""
    of = pushed.reshape(1, -1, *[1] * (made.ndim - 2)).to(made)
    return (made * of).sum(1, keepdim=True) / of.sum()


def _project(
    response: Callable[[Tensor, Tensor], Pair], x: Tensor, shells: int, by_channel: bool
) -> Float[Tensor, "batch shell axis *channels"]:
    """Return v.answer / v.displacement of response(v, pushed channels) for every unit mode, the two phases averaged."""
    modes = Lattice.of(x).modes(shells, x.dtype, x.device)
    columns = []
    for pushed in _pushes(x, by_channel):
        column = x.new_empty(len(x), *modes.shape[:3], x.shape[1])
        for n, axis, phase in itertools.product(*(range(size) for size in modes.shape[:3])):
            if n == 0 and (axis, phase) != (0, 0):
                column[:, 0, axis, phase] = column[:, 0, 0, 0]
                continue
            mode = modes[n, axis, phase]
            answer, made = ((mode * each).flatten(2).double().sum(2) for each in response(mode, pushed))
            column[:, n, axis, phase] = answer / _of_pushed(made, pushed)
        columns.append(column.mean(3))
    return _gains(columns, by_channel)


@dataclass(frozen=True)
class ModeGains:
    """The gains of the lowest shells of Fourier modes.

    Args:
        shells: Highest shell.
        method: All modes at once with signs, one by one by differences, by forward-mode AD, or in closed form.
        by_channel: Whether to push one channel at a time.
        seed: Seed of the signs.
        places: Index of each measurement by the grid index of its time; signs cancel over consecutive ones.
    """

    shells: int = 6
    method: Method = "difference"
    by_channel: bool = False
    seed: int = 0
    places: Mapping[int, int] | None = None

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        dims = ("shell", "axis", *(("channel", "pushed") if self.by_channel else ()))
        return {
            "gain": Variable(dims, "mode gain G_n", "1", "v.(dD/dx)v", "state"),
            "gain_change": Variable(dims, GAIN_CHANGE, "1", "v.(dD/dx)v", "state"),
        }

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the gains of every trajectory, and how they change with the step."""
        place = state.step if self.places is None else self.places[state.step]
        gain = self._gains(state, place, None)
        if self.method in ("jvp", "exact") or place % STEPPED:
            return {"gain": gain, "gain_change": torch.full_like(gain, math.nan)}
        return {"gain": gain, "gain_change": self._gains(state, place, 2 * probe_step(state.edm, state.sigma)) - gain}

    def _gains(self, state: State, place: int, step: Tensor | None) -> Tensor:
        seen = state.denoiser, state.edm, state.sigma, self.shells
        if self.method == "difference":
            return difference_gains(*seen, step, self.by_channel)
        if self.method == "jvp":
            return jvp_gains(*seen, self.by_channel)
        if self.method == "exact":
            return exact_gains(cast(ExactDenoiser, state.denoiser), *seen[1:])
        modes = 2 * Lattice.of(state.x).dimensions * self.shells
        signs = mode_signs(modes, state.trajectories, place, self.seed)
        return multiplexed_gains(*seen, signs, step, self.by_channel)


@dataclass(frozen=True)
class PatchKernel:
    """The site-averaged Jacobian row of a patch model, from which all its gains follow in closed form."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"kernel": Variable(("omega",), "site-averaged Jacobian row of D", "1", "Eq. 7")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the row of every trajectory."""
        kernel: Callable[[Tensor, Tensor], Tensor] = state.denoiser.kernel  # type: ignore[attr-defined] # which not every such object declares
        return {"kernel": kernel(state.edm, state.sigma)}
