"""References that are plain enough to be right by inspection: dense matrices, plane waves, loops over sites."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softmode.lattice import Lattice, ReceptiveField


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the Jacobian of a function of n numbers with n values at x [...], by reverse-mode AD, [n, n]."""
    return torch.func.jacrev(function)(x).reshape(x.numel(), x.numel())


def sites(space: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the coordinates of every site, in the order of a flattened field."""
    return list(itertools.product(*map(range, space)))


def plane_waves(space: Sequence[int]) -> Tensor:
    """Return the unit plane wave exp(i k.site) / sqrt(sites) of every wave vector of the lattice, [*space, site]."""
    at = torch.tensor(sites(space), dtype=torch.float64)
    return torch.exp(1j * (Lattice(tuple(space)).wave_vectors() @ at.T)) / math.sqrt(len(at))


def rayleigh_quotients(matrix: Tensor, space: Sequence[int], channels: int = 1) -> Tensor:
    """Return Re e*.J e of the unit plane wave e of every wave vector, all channels moving together, [*space]."""
    waves = torch.cat([plane_waves(space)] * channels, -1) / math.sqrt(channels)
    return torch.einsum("...i,ij,...j->...", waves.conj(), matrix.to(waves), waves).real


def patches(x: Tensor, field: ReceptiveField) -> Tensor:
    """Return x_{i+u} of single-channel states, periodic, by indexing, [batch, |Omega|, *space]."""
    space = x.shape[2:]
    at = torch.meshgrid(*map(torch.arange, space), indexing="ij")
    around = [[(i + c) % n for i, c, n in zip(at, u, space, strict=True)] for u in field.offsets]
    return torch.stack([x[(slice(None), 0, *index)] for index in around], 1)


def orders(errors: Sequence[float] | Tensor) -> Tensor:
    """Return the order of convergence at every halving of the step, of errors [step, ...]: [step - 1, ...]."""
    errors = torch.as_tensor(errors, dtype=torch.float64)
    return (errors[:-1] / errors[1:]).log2()
