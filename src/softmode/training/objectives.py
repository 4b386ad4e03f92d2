"""What a network is trained to: the terms of each image's loss, drawn from a stream, and the loss itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode.data import Images
from softmode.exact.gaussian import GaussianDenoiser
from softmode.networks.preconditioned import Preconditioned, scales
from softmode.process import VP
from softmode.training.held_out import accuracy, loss_by_level

# noise levels of the recipe edm: log-normal as in karras2022, wider and higher, and cut at the ends of its samplers
LOWEST, HIGHEST = 0.002, 80.0
LOG_MEAN, LOG_DEVIATION = 1.0, 1.9
# sites by which a classifier's images are shifted at most
SHIFT = 2


class Objective(Protocol):
    """What a network is trained to."""

    def draw(self, x: Tensor, labels: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        """Return images, as they are shown, with everything random about them and their labels, each [image, ...]."""
        ...

    def loss(self, network: nn.Module, x: Tensor, *terms: Tensor) -> Tensor:
        """Return each image's loss, [image], of what `draw` returned."""
        ...

    def measure(self, network: nn.Module, images: Images, stream: torch.Generator) -> dict[str, Any]:
        """Return what is measured on held-out images after each epoch."""
        ...


@dataclass(frozen=True)
class Noise:
    """The squared error of the noise of VP states, averaged over sites, at log-uniform times.

    Args:
        labels: Number of values of each label.
        dropout: Share of images shown without their class.
        t_max: Longest time.
        t_min: Shortest time.

    Source: paper F.4, per site, so that the clipping of gradients does not depend on the image's size.
    """

    labels: Sequence[int]
    dropout: float
    t_max: float
    t_min: float

    def draw(self, x: Tensor, labels: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        """Return images, times, noise and labels."""
        uniform = torch.rand(2, len(x), generator=stream, device=x.device, dtype=torch.float64)
        t = self.t_min * torch.exp(uniform[0] * math.log(self.t_max / self.t_min))
        nothing = self.labels[0] if self.labels else 0
        labels = torch.where(uniform[1] < self.dropout, nothing, labels)
        return x, t, torch.randn(x.shape, generator=stream, device=x.device), labels

    def loss(self, network: nn.Module, x: Tensor, *terms: Tensor) -> Tensor:
        """Return each image's loss, [image]."""
        t, noise, labels = terms
        process = VP()
        alpha, sigma = (f(t).reshape(-1, 1, 1, 1).to(x.dtype) for f in (process.alpha, process.sigma))
        predicted: Tensor = network(alpha * x + sigma * noise, t, labels if self.labels else None)
        return (predicted.float() - noise).square().flatten(1).mean(1)

    def measure(self, network: nn.Module, images: Images, stream: torch.Generator) -> dict[str, Any]:
        """Return the held-out loss by time."""
        return loss_by_level(self.loss, network, images, stream, ("t", self.t_max, self.t_min))


@dataclass(frozen=True)
class Edm:
    r"""The squared error of a preconditioned network, weighted by $1/c_\mathrm{out}^2$ and averaged over sites.

    $\log\sigma$ is normal with mean 1 and standard deviation 1.9, cut at 0.002 and 80.

    Args:
        labels: Number of values of each label.
        dropout: Share of images shown without their class, where there is one label. Of several, the number that is
            left out is uniform, and which they are is random, so that any subset can be asked for.
        sigma_data: Standard deviation of the data.
        null: Gaussian model of the data.
        binary: Whether the data are +-1.

    Source: karras2022 (Eq. 8, Table 1).
    """

    labels: Sequence[int]
    dropout: float
    sigma_data: float
    null: GaussianDenoiser
    binary: bool = False

    def draw(self, x: Tensor, labels: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        """Return images, noise levels, noise and labels."""
        uniform = torch.rand(2 + len(self.labels), len(x), generator=stream, device=x.device, dtype=torch.float64)
        ends = torch.tensor([LOWEST, HIGHEST], dtype=torch.float64, device=x.device).log()
        low, high = torch.special.ndtr((ends - LOG_MEAN) / LOG_DEVIATION)
        sigma = (LOG_MEAN + LOG_DEVIATION * torch.special.ndtri(low + (high - low) * uniform[0])).exp()
        if len(self.labels) == 1:
            labels = torch.where(uniform[1] < self.dropout, self.labels[0], labels)
        elif self.labels:
            left_out = (uniform[1] * (1 + len(self.labels))).floor()
            missing = left_out[:, None] > uniform[2:].argsort(0).argsort(0).T
            labels = torch.where(missing, torch.tensor(self.labels, device=x.device), labels)
        return x, sigma, torch.randn(x.shape, generator=stream, device=x.device), labels

    def loss(self, network: nn.Module, x: Tensor, *terms: Tensor) -> Tensor:
        """Return each image's loss, [image]."""
        sigma, noise, labels = terms
        told = (labels,) if self.labels else ()
        denoiser = Preconditioned(
            lambda z, embedded: network(z, embedded, *told), self.null, self.sigma_data, self.binary
        )
        error = denoiser(x + sigma.reshape(-1, 1, 1, 1).to(x.dtype) * noise, sigma) - x
        return error.float().square().flatten(1).mean(1) / scales(sigma, self.null, self.sigma_data)[0].square().float()

    def measure(self, network: nn.Module, images: Images, stream: torch.Generator) -> dict[str, Any]:
        """Return the held-out loss by noise level."""
        return loss_by_level(self.loss, network, images, stream, ("sigma", HIGHEST, LOWEST))


@dataclass(frozen=True)
class Classes:
    """The cross entropy of a classifier's labels, its images flipped and shifted at random.

    Args:
        labels: Number of values of each label; the logits of all labels follow each other.
        shift: Sites by which an image is shifted at most, along both axes.
    """

    labels: Sequence[int]
    shift: int

    def draw(self, x: Tensor, labels: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        """Return images and labels."""
        uniform = torch.rand(2, len(x), generator=stream, device=x.device, dtype=torch.float64)
        x = torch.where((uniform[0] < 0.5).reshape(-1, 1, 1, 1), x.flip(-1), x)
        if self.shift:
            side = 2 * self.shift + 1
            padded = functional.pad(x, [self.shift] * 4, value=-1.0)
            place = (uniform[1] * side**2).long()
            rows, columns = ((place // each % side)[:, None] for each in (side, 1))
            row, column = (torch.arange(n, device=x.device) for n in x.shape[2:])
            image = torch.arange(len(x), device=x.device)[:, None, None]
            x = padded[image, :, (rows + row)[:, :, None], (columns + column)[:, None, :]].movedim(-1, 1)
        return x, labels

    def loss(self, network: nn.Module, x: Tensor, *terms: Tensor) -> Tensor:
        """Return each image's loss, [image]."""
        logits: Tensor = network(x)
        targets = terms[0].reshape(len(x), -1)
        parts = logits.float().split(list(self.labels), 1)
        each = [functional.cross_entropy(part, targets[:, i], reduction="none") for i, part in enumerate(parts)]
        return torch.stack(each).mean(0)

    def measure(self, network: nn.Module, images: Images, stream: torch.Generator) -> dict[str, Any]:
        """Return the share of right answers."""
        del stream
        return accuracy(network, images, self.labels)
