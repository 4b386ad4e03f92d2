"""What a sector run measured of every state, and what follows for each."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from softmode.estimate import Array
from softmode.formulas.couplings import commutation_defect, departure, extremes
from softmode.runs.run import Run

# rounding of an eigenvalue in single precision
ROUNDING = 1e-4
# share of a mode in one star of wave vectors from which on it is a component of it
OF_STAR = 0.9


@dataclass(frozen=True, eq=False)
class Sectors:
    """What was measured of every state.

    Args:
        values: Largest eigenvalues [state, mode], in falling order.
        errors: What they may be wrong by: residual and rounding.
        antisymmetric: What of the Jacobian is no gradient's at the softest mode [state], the network's own error.
        extents: Sites of the modes [state, mode].
        waves: Strongest waves of the modes [state, mode, axis], in units of the lowest.
        stars: Shares of the modes in the star of that wave [state, mode].
        mass: M [state, a, b].
        stiffness: K, its mean over the axes [state, a, b].
        stiffness_error: What it may be wrong by.
        quartic: U [state, a, b, c, d].
        low: Least value of U over directions [state].
        high: Largest value.
        quartic_error: What these may be wrong by [state]: the differences, and what of the response is no gradient's.
        overlaps: |u . v| of the softest modes of any two states [pair].
    """

    values: Array
    errors: Array
    antisymmetric: Array
    extents: Array
    waves: Array
    stars: Array
    mass: Array
    stiffness: Array
    stiffness_error: Array
    quartic: Array
    low: Array
    high: Array
    quartic_error: Array
    overlaps: Array

    @classmethod
    def of(cls, run: Run) -> "Sectors":
        """Return those of a run."""
        data = {str(name): values.to_numpy() for name, values in run.dataset.data_vars.items()}
        errors = data["residual"] + ROUNDING
        axes = data["stiffness"].shape[-1]
        bend, bend_error = (np.einsum("sabmm->sab", data[n]) / axes for n in ("stiffness", "stiffness_error"))
        low, high = (each.numpy() for each in extremes(torch.from_numpy(data["quartic"].astype(np.float64))))
        # the form's value changes by less than the norm of what the tensor changes by
        wrong, size = (
            np.sqrt((data[n].astype(float) ** 2).reshape(len(low), -1).sum(1)) for n in ("quartic_error", "quartic")
        )
        flat = data["mode"][:, 0].reshape(len(low), -1)
        return cls(
            data["eigenvalue"], errors, data["antisymmetric"], data["extent"], data["wave"], data["star"], data["mass"],
            bend, bend_error, data["quartic"], low, high, wrong + np.nan_to_num(data["uneven"]) * size,
            np.abs(flat @ flat.T)[np.triu_indices(len(flat), 1)],
        )  # fmt: skip

    @property
    def soft(self) -> Float[Array, " state"]:
        """How many of the modes are unstable: their eigenvalues exceed 1 by more than their error."""
        return (self.values - self.errors > 1).sum(1).astype(float)

    @property
    def alike(self) -> Float[Array, " state"]:
        """How many of the modes have the largest eigenvalue, as far as the network itself knows."""
        within = self.errors[:, :1] + self.errors + self.antisymmetric[:, None]
        return (self.values[:, :1] - self.values <= within).sum(1).astype(float)

    @property
    def size(self) -> Float[Array, " state"]:
        """Largest size of U over directions; NaN where U is nothing but its error."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        return np.where(size > self.quartic_error, size, np.nan)

    @property
    def alone(self) -> Float[Array, " state"]:
        """Whether no other mode is unstable beside the softest, or as soft."""
        return ((self.soft <= 1) & (self.alike <= 1)).astype(float)

    @property
    def of_one_star(self) -> Float[Array, " state"]:
        """Whether the modes with the largest eigenvalue are waves of one star."""
        same = (self.waves == self.waves[:, :1]).all(2) & (self.stars > OF_STAR)
        return np.where(np.arange(self.values.shape[1]) < self.alike[:, None], same, True).all(1).astype(float)

    @property
    def both_signs(self) -> Float[Array, " state"]:
        """Whether U takes both signs, by more than it may be wrong."""
        return ((self.low < -self.quartic_error) & (self.high > self.quartic_error)).astype(float)

    @property
    def defect(self) -> Float[Array, " state"]:
        """How far M and K are from commuting; NaN where one of them is one number as far as can be told."""
        found = commutation_defect(*(torch.from_numpy(each.astype(float)) for each in (self.mass, self.stiffness)))
        alike = self.alike >= self.values.shape[1]
        return np.where(alike, np.nan, found.numpy())

    @property
    def departure(self) -> Float[Array, " state"]:
        """How far U is from the isotropic form; NaN where U is nothing."""
        found = departure(torch.from_numpy(self.quartic.astype(float))).numpy()
        return np.where(np.isnan(self.size), np.nan, found)

    @property
    def defect_error(self) -> Float[Array, " state"]:
        """What that may be wrong by: the error of K in units of what of K differs between modes."""
        size = self.stiffness_error.shape[1]
        free = self.stiffness - np.einsum("saa->s", self.stiffness)[:, None, None] / size * np.eye(size)
        error, norm = (np.sqrt((each.astype(float) ** 2).sum((1, 2))) for each in (self.stiffness_error, free))
        return np.asarray(error / np.maximum(norm, np.finfo(float).tiny))
