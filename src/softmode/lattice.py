"""Periodic lattices in d = 1, 2, 3: wave vectors, unit Fourier modes by shell, receptive fields and their constants.

Lattice spacing is 1 everywhere; a wave vector is in radians per site.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.bounds import shown
from softmode.message import refusal

Offset = tuple[int, ...]
# offsets of a receptive field, and how far from the site one may be
MOST_OFFSETS, FARTHEST = 10**5, 10**6


@dataclass(frozen=True)
class Lattice:
    """A periodic lattice of `shape` sites.

    Args:
        shape: Sites along each axis, one to three axes, each at least 2.

    Raises:
        ValueError: If there are not one to three axes or an axis is shorter than 2.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) <= 3 or min(self.shape) < 2:
            raise ValueError(f"shape: got {self.shape}; expected one to three axes of at least 2 sites")

    @classmethod
    def of(cls, x: Tensor) -> "Lattice":
        """Return the lattice that carries a field `x` of shape [batch, channel, *space]."""
        return cls(tuple(x.shape[2:]))

    @property
    def dimensions(self) -> int:
        """Number of axes d."""
        return len(self.shape)

    @property
    def sites(self) -> int:
        """Number of sites N."""
        return math.prod(self.shape)

    @property
    def k_min(self) -> tuple[float, ...]:
        """Smallest wavenumber of each axis, 2 pi / L (radians per site).

        Source: paper E.9.
        """
        return tuple(2 * math.pi / length for length in self.shape)

    def wave_vectors(self) -> Float[Tensor, "*space d"]:
        """Return every wave vector of the lattice in the order of `torch.fft.fftn`, [*shape, d], float64."""
        axes = [2 * math.pi * torch.fft.fftfreq(length, dtype=torch.float64) for length in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

    def wavenumbers(self, shells: int) -> Float[Tensor, "shell axis"]:
        """Return |k| = n k_min of shells n = 0..shells along each axis, [shells + 1, d] (radians per site).

        Raises:
            ValueError: If the highest shell reaches the Nyquist wavenumber of some axis.
        """
        if not 0 <= 2 * shells < min(self.shape):
            raise ValueError(f"shells: got {shells}; expected 0 <= shells < {min(self.shape) / 2:g}, half the lattice")
        return torch.arange(shells + 1, dtype=torch.float64)[:, None] * torch.tensor(self.k_min, dtype=torch.float64)

    def shell_vectors(self, shells: int) -> Float[Tensor, "shell axis d"]:
        """Return the wave vectors of shells n = 0..shells along each axis, [shells + 1, d, d] (radians per site)."""
        return torch.diag_embed(self.wavenumbers(shells))

    def index_of(self, k: Float[Tensor, "*k d"]) -> tuple[Int[Tensor, "*k"], ...]:
        """Return where wave vectors k [..., d] stand in `wave_vectors`, as one index per axis.

        Raises:
            ValueError: If a wave vector is not one of the lattice's.
        """
        turns = k.double().cpu() * torch.tensor(self.shape) / (2 * math.pi)
        if not torch.allclose(turns, turns.round(), rtol=0, atol=1e-6):
            raise ValueError(f"k: got a wave vector off the lattice {self.shape}; expected multiples of 2 pi / L")
        index = turns.round().long() % torch.tensor(self.shape)
        return tuple(index.unbind(-1))

    def modes(
        self, shells: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "shell axis phase *space"]:
        r"""Return the unit Fourier modes of the lowest shells, cosine and sine along each axis.

        $v(i) = \sqrt{2/N}\,\cos(n k_{\min} i)$ and $\sqrt{2/N}\,\sin(n k_{\min} i)$; shell 0 is $1/\sqrt N$ in both
        phases. The two phases and all axes belong to one shell.

        Args:
            shells: Highest shell n; below half the shortest axis.
            dtype: Floating type of the result.
            device: Device of the result.

        Returns:
            [shells + 1, d, 2, *shape]; every mode has unit Euclidean norm.

        Raises:
            ValueError: If `shells` reaches the Nyquist shell of some axis.

        Source: paper Eqs. 65, 66, normalised so that the Rayleigh quotient needs no division (Eq. 64 is unnormalised).
        """
        wavenumbers = self.wavenumbers(shells)
        modes = torch.empty(shells + 1, self.dimensions, 2, *self.shape, dtype=torch.float64)
        for axis, length in enumerate(self.shape):
            along = [1] * self.dimensions
            along[axis] = length
            phase = wavenumbers[:, axis, None] * torch.arange(length, dtype=torch.float64)
            for part, wave in enumerate((phase.cos(), phase.sin())):
                modes[:, axis, part] = math.sqrt(2 / self.sites) * wave.reshape(-1, *along)
        modes[0] = 1 / math.sqrt(self.sites)
        return modes.to(device, dtype)

    def phase(self, wave: Sequence[int]) -> Float[Tensor, "*space"]:
        r"""Return $k\cdot r$ at every site, [*shape], float64.

        Args:
            wave: The wave vector k, in units of the lowest along each axis.
        """
        along = [
            n * k * torch.arange(side, dtype=torch.float64)
            for n, k, side in zip(wave, self.k_min, self.shape, strict=True)
        ]
        return torch.stack(torch.meshgrid(*along, indexing="ij")).sum(0)

    def distances(self) -> Float[Tensor, "*space"]:
        """Return the periodic (minimal-image) distance of every site from the origin, [*shape], float64."""
        squared = torch.zeros(self.shape, dtype=torch.float64)
        for axis, length in enumerate(self.shape):
            step = torch.arange(length, dtype=torch.float64)
            along = [1] * self.dimensions
            along[axis] = length
            squared = squared + torch.minimum(step, length - step).square().reshape(along)
        return squared.sqrt()

    def radial_bins(self) -> Int[Tensor, "*space"]:
        """Return each site's distance from the origin rounded to an integer, [*shape]."""
        return self.distances().round().long()


@dataclass(frozen=True)
class ReceptiveField:
    """A finite set of offsets Omega in Z^d that contains the origin.

    Args:
        offsets: Distinct integer offsets u of one dimension d; stored in lexicographic order.

    Raises:
        ValueError: If the set is empty, mixes dimensions, repeats an offset or lacks the origin.

    Source: paper Sec. 6, Omega.
    """

    offsets: tuple[Offset, ...]

    def __post_init__(self) -> None:
        dimensions = {len(u) for u in self.offsets}
        if len(dimensions) != 1 or not dimensions <= {1, 2, 3}:
            raise ValueError(
                f"offsets: got dimensions {shown(sorted(dimensions))}; expected offsets of one dimension, 1 to 3"
            )
        if len(self.offsets) > MOST_OFFSETS:
            raise refusal(f"offsets: got {len(self.offsets)}; expected at most {MOST_OFFSETS}")
        if max(abs(c) for u in self.offsets for c in u) > FARTHEST:
            raise refusal(f"offsets: got one that is too far; expected at most {FARTHEST} sites along each axis")
        if len(set(self.offsets)) != len(self.offsets):
            raise ValueError("offsets: got a repeated offset; list each once")
        if (0,) * dimensions.pop() not in self.offsets:
            raise ValueError("offsets: got no origin; the receptive field must contain the site itself")
        object.__setattr__(self, "offsets", tuple(sorted(self.offsets)))

    @classmethod
    def box(cls, width: int, dimensions: int = 2) -> "ReceptiveField":
        """Return the cube of odd side `width` centred on the site, |Omega| = width^d."""
        if width < 1 or width % 2 == 0:
            raise refusal(f"receptive_field: got box:{shown(width)}; expected an odd width, for example box:5")
        if width > (most := _widest(dimensions)):
            raise refusal(f"receptive_field: got box:{shown(width)}; expected at most box:{most}, by its offsets")
        half = range(-(width // 2), width // 2 + 1)
        return cls(tuple(itertools.product(half, repeat=dimensions)))

    @classmethod
    def ball(cls, radius: float, dimensions: int = 2) -> "ReceptiveField":
        """Return all offsets with Euclidean |u| <= radius."""
        if not 0 <= radius < math.inf:
            raise refusal(f"receptive_field: got ball:{radius:g}; expected a finite radius of at least 0")
        if math.floor(radius) > (most := _widest(dimensions) // 2):
            raise refusal(f"receptive_field: got ball:{radius:g}; expected at most ball:{most}, by its offsets")
        reach = range(-math.floor(radius), math.floor(radius) + 1)
        inside = (u for u in itertools.product(reach, repeat=dimensions) if math.hypot(*u) <= radius)
        return cls(tuple(inside))

    @classmethod
    def cross(cls, arm: int, dimensions: int = 2) -> "ReceptiveField":
        """Return the origin and `arm` sites to either side along every axis, |Omega| = 1 + 2 d arm."""
        if arm < 0:
            raise refusal(f"receptive_field: got cross:{shown(arm)}; expected an arm of at least 0")
        if arm > (most := (MOST_OFFSETS - 1) // (2 * dimensions)):
            raise refusal(f"receptive_field: got cross:{shown(arm)}; expected at most cross:{most}, by its offsets")
        along = {tuple(step if a == axis else 0 for a in range(dimensions))
                 for axis in range(dimensions) for step in range(-arm, arm + 1)}  # fmt: skip
        return cls(tuple(along))

    @classmethod
    def parse(cls, text: str, dimensions: int = 2) -> "ReceptiveField":
        """Build a receptive field from its command-line form.

        Args:
            text: `box:5`, `ball:2.5`, `cross:2` or explicit offsets, `offsets:0,0;0,1;1,0`.
            dimensions: Number of axes d, 1 to 3; explicit offsets must have it.

        Raises:
            ValueError: If the text is none of these forms, or its numbers do not fit.
        """
        if not 1 <= dimensions <= 3:
            raise ValueError(f"dimensions: got {dimensions}; expected 1, 2 or 3")
        kind, _, value = text.partition(":")
        try:
            if kind == "box":
                return cls.box(int(value), dimensions)
            if kind == "ball":
                return cls.ball(float(value), dimensions)
            if kind == "cross":
                return cls.cross(int(value), dimensions)
            if kind == "offsets":
                field = cls(tuple(tuple(int(c) for c in u.split(",")) for u in value.split(";")))
            else:
                raise ValueError
        except ValueError as error:
            if str(error).startswith(("receptive_field", "offsets")):
                raise
            raise refusal(
                f"receptive_field: got {shown(text)}; expected box:5, ball:2.5, cross:2 or offsets:0,0;0,1"
            ) from None
        if field.dimensions != dimensions:
            raise refusal(f"receptive_field: got {shown(text)} in {field.dimensions} dimensions; expected {dimensions}")
        return field

    @property
    def dimensions(self) -> int:
        """Number of axes d."""
        return len(self.offsets[0])

    @property
    def size(self) -> int:
        """Number of sites |Omega|."""
        return len(self.offsets)

    @property
    def centre(self) -> int:
        """Index of the origin among `offsets`."""
        return self.offsets.index((0,) * self.dimensions)

    @cached_property
    def reach(self) -> tuple[tuple[int, int], ...]:
        """Farthest offset below and above the site along each axis, both as numbers of sites."""
        return tuple((-min(along), max(along)) for along in zip(*self.offsets, strict=True))

    @property
    def extent(self) -> tuple[int, ...]:
        """Side of the smallest enclosing box along each axis (sites)."""
        return tuple(below + above + 1 for below, above in self.reach)

    def tensor(self) -> Float[Tensor, "omega d"]:
        """Return the offsets as a float64 array [|Omega|, d]."""
        return torch.tensor(self.offsets, dtype=torch.float64)

    def c_tensor(self) -> Float[Tensor, "d d"]:
        r"""Return $c_{\mu\nu} = \tfrac12 \sum_u u_\mu u_\nu$, which multiplies $\partial_\mu\partial_\nu$ in the sum.

        Source: paper Sec. 6.1, gradient expansion.
        """
        u = self.tensor()
        return 0.5 * u.T @ u

    @property
    def c_omega(self) -> float:
        r"""Scalar $c_\Omega = \sum_u |u|^2 / (2d)$, the isotropic part of `c_tensor` (25 for the 5x5 box).

        Source: paper Sec. 6.1 and Eq. 16.
        """
        return float(self.tensor().square().sum()) / (2 * self.dimensions)

    def transform(self, k: Float[Tensor, "*k d"], weights: Float[Tensor, "*pattern omega"] | None = None) -> Tensor:
        r"""Return $\hat\Omega(k) = \sum_{u\in\Omega} w_u e^{i k\cdot u}$, the Fourier transform of a kernel on Omega.

        Args:
            k: Wave vectors [..., d], radians per site.
            weights: Kernel [*pattern, |Omega|] in the order of `offsets`; ones when omitted.

        Returns:
            Complex [*pattern, ...]; its real part is the dispersion of the kernel.

        Source: paper Eq. 7 and the line below it.
        """
        waves = torch.exp(1j * (k.double() @ self.tensor().to(k.device).T))
        if weights is None:
            return waves.sum(-1)
        return torch.tensordot(weights.to(waves), waves, dims=([-1], [-1]))

    def check_fits(self, shape: Sequence[int]) -> None:
        """Raise a ValueError unless the receptive field fits in a periodic lattice of `shape` without wrapping."""
        if len(shape) != self.dimensions or any(e > n for e, n in zip(self.extent, shape, strict=False)):
            raise ValueError(
                f"receptive_field: spans {self.extent} sites; expected to fit the lattice {tuple(shape)}: "
                "use a larger size or a smaller field"
            )


def _widest(dimensions: int) -> int:
    """Return the odd side of the largest cube whose offsets are not too many."""
    side = round(MOST_OFFSETS ** (1 / dimensions))
    return (side - (side**dimensions > MOST_OFFSETS) - 1) | 1
