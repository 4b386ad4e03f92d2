"""Take the Jacobian of a network, and of the network without a part of it, apart at noised data."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.contract import check_denoiser
from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.experiments.attention.apart import PAIRS, Apart, apart, padded, sources
from softmode.experiments.attention.config import Config
from softmode.experiments.attention.inputs import BYTES, check_dense, held_out_images, near_radius, noise_levels
from softmode.experiments.attention.networks import NULL, WHOLE, Ablation, ablations
from softmode.experiments.attention.null import FEWEST, Null
from softmode.labels import Label
from softmode.lattice import Lattice
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.ablation import GlobalParts
from softmode.observe.derivatives import check_derivatives
from softmode.observe.nonlocality import ROWS, Matrix, dense_jacobian, symmetrised
from softmode.observe.state import Variable
from softmode.runs.classes import dealt_labels, label_of
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import identity_of, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.opening import open_model
from softmode.runs.store import ArraySpec, Block
from softmode.streams import TrajectoryNoise, stream_seed, tag

LEAST = 2
# far modes that are kept as fields, and softest modes
SHOWN, SOFT = 4, 4
# what moves with the site within and beyond the radius, and the rest within and beyond it
PARTS = 4
# attention without norms, norms without attention, both in one path, neither
SOURCES = 4
# rounding of an eigenvalue in single precision, in units of the network's largest one
ROUNDING = 1e-4


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "AttentionPlan":
    """Check a config and build what it describes.

    Args:
        config: The model, and where its Jacobian is taken apart.
        given: The `model` that is at hand.

    Raises:
        ValueError: If any field is out of range or the model cannot be used, naming the remedy.
    """
    check(config)
    if config.trajectories < LEAST:
        raise refusal(f"trajectories: got {config.trajectories}; expected at least {LEAST}: fewer have no interval")
    model, device, dtype = open_model(config, given or {})
    labels = dealt_labels(config.labels, model, config.trajectories)
    denoisers = {label: model.denoiser(label) for label in labels}
    found = GlobalParts.of(tuple(denoisers.values()))
    if not found.attention and not found.norms:
        raise refusal(
            f"model: {quote(model.name)} has no attention and no norm over the field that could be taken out; softmode "
            "probe measures how far any model's response reaches, softmode instability its softest modes"
        )
    check_dense(model)
    radius, levels = near_radius(config, model), noise_levels(config, model)
    images = held_out_images(config, model, labels)
    config = replace(config, radius=radius, sigma=tuple(levels.tolist()))
    middle = float(levels[len(levels) // 2])
    seconds = max(check_denoiser(each, model, dtype, device, middle) for each in denoisers.values())
    for each in denoisers.values():
        check_derivatives(each, model.name, model.shape, levels.to(device, dtype))
    return AttentionPlan(config, model, denoisers, images, levels, found, dtype, device, seconds)


@dataclass(frozen=True, eq=False)
class AttentionPlan(Plan):
    """A network, its data, and what is taken out of it.

    Args:
        config: The config.
        model: The model.
        denoisers: Its denoiser by class, which are dealt out to the states in turn.
        images: Held-out data of each class, of a state's sides or of a tile's.
        levels: Falling noise levels.
        channels: The network's attention and norms.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    denoisers: dict[Label, Denoiser]
    images: dict[Label, Tensor]
    levels: Tensor
    channels: GlobalParts
    dtype: torch.dtype
    device: torch.device
    call_seconds: float

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a dense Jacobian with its eigenvalues, and of the gradients of some rows at once."""
        return BYTES * math.prod(self.model.shape) ** 2 + ROWS / 2 * state_bytes(self.model, self.dtype)

    @cached_property
    def networks(self) -> tuple[Ablation, ...]:
        """The whole network first, and those without a part of it."""
        return ablations(self.channels)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model by fingerprints, digests of every file, the networks that are compared, and the data."""
        first = next(iter(self.images.values()))
        return identity_of(self.model, self.denoisers, self.device, self.dtype, self.config.data) | {
            "networks": [*(each.name for each in self.networks), NULL],
            "parts": {"attention": len(self.channels.attention), "norms": len(self.channels.norms)},
            "data": {"images": min(map(len, self.images.values())), "tile": list(first.shape[2:])},
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """The noise levels."""
        return {
            "level": constant(self.levels, ("level",), "EDM noise level sigma/alpha"),
            "trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "state's index"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is found of every state at every level, for the networks that `identity` lists in this order."""
        channels, *sides = self.model.shape
        farthest = round(float(Lattice(tuple(sides)).distances().max()))
        sizes = {
            "trajectory": self.config.trajectories, "level": len(self.levels), "network": len(self.networks) + 1,
            "portion": PARTS, "distance": farthest + 1, "pair": PAIRS, "shown": SHOWN, "soft": SOFT, "other": SOFT,
            "source": SOURCES, "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        of_network, of_pair = ("level", "network"), ("level", "network", "pair")
        return layout(
            sizes,
            {
                "power": Variable(
                    (*of_network, "portion"),
                    "squared Frobenius norms: what moves with the site within and beyond the radius, the rest likewise",
                    source="paper D.2",
                ),
                "distance_power": Variable((*of_network, "distance"), "sum of squared entries of J by distance"),
                "rank": Variable(of_network, "effective rank of the symmetrised long-range rest", source="paper D.3"),
                "strongest": Variable(of_network, "largest size of its eigenvalues"),
                "noise_edge": Variable(of_network, "the same with random signs of all entries"),
                "edge": Variable(of_network, "size that a mode must exceed: of noise, of the null and of rounding"),
                "uniform": Variable(of_network, "gain of the constant mode through distant sites", source="paper D.4"),
                "gamma": Variable(of_pair, "strengths of the modes beyond the edge, NaN for none", source="paper D.3"),
                "coherence": Variable(of_pair, "|sum_i u_i|^2/N of these modes", source="paper D.3"),
                "null_edge": Variable(("level",), "the null's largest size of an eigenvalue and two standard errors"),
                "source": Variable(
                    ("level", "source"),
                    "share of the long-range rest through attention alone, norms alone, both, and neither",
                ),
                "soft_value": Variable(("level", "soft"), "largest eigenvalues of (J + J^T)/2"),
                "soft_coupling": Variable(
                    ("level", "network", "soft", "other"), "long-range rest between these modes, J^glob_ab",
                    source="paper D.4",
                ),
                "mode": Variable(
                    ("level", "shown", "channel", *SPACE[-len(sides) :]),
                    "strongest modes beyond the edge; NaN for none", "1", "paper D.3", "state",
                ),
            },
            self.config.dtype,
        )  # fmt: skip

    def steps(self, pending: list[Block]) -> int:
        """Return the Jacobians of all states."""
        return sum(len(block.trajectories) for block in pending) * len(self.levels) * len(self.networks)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes: about an evaluation for each row."""
        return self.steps(pending) * math.prod(self.model.shape) * self.call_seconds

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block, each state measured apart."""
        labels, places = tuple(self.denoisers), range(len(self.levels))
        rows = [[self._at(label_of(labels, i), i, place, advance) for place in places] for i in block.trajectories]
        return {
            name: np.stack([np.stack([level[name].detach().cpu().numpy() for level in row]) for row in rows])
            for name in rows[0][0]
        }

    def _at(self, label: Label, trajectory: int, place: int, advance: Callable[[], None]) -> dict[str, Tensor]:
        """Return every array of one state at one noise level."""
        sigma, x = float(self.levels[place]), self._state(label, trajectory, place)
        null, null_edge = self._null(label, place)
        signs = torch.Generator().manual_seed(stream_seed(self.config.seed, trajectory, tag("attention signs"), place))
        found, least = dict[str, Apart](), max(0.0, null_edge)
        for network in self.networks:
            with self.channels.ablated(network.attention, network.norms):
                matrix = dense_jacobian(self.denoisers[label], x, sigma)
            if network.name == WHOLE:
                soft_values, soft_modes = torch.linalg.eigh(symmetrised(matrix))
                least = max(least, ROUNDING * float(soft_values.abs().max()))
                soft = soft_modes[:, -SOFT:].flip(1)
            found[network.name] = apart(matrix, self.model.shape, self.radius, least, signs)
            advance()
        if null is not None:
            found[NULL] = apart(null.to(soft), self.model.shape, self.radius, least, signs)
        columns = [each.values | {"soft_coupling": soft.T @ symmetrised(each.far) @ soft} for each in found.values()]
        if null is None:
            columns.append({name: torch.full_like(value, math.nan) for name, value in columns[0].items()})
        return {name: torch.stack([each[name].cpu() for each in columns]) for name in columns[0]} | {
            "null_edge": torch.tensor(null_edge, dtype=torch.float64),
            "source": sources({name: each.far for name, each in found.items()}),
            "soft_value": soft_values[-SOFT:].flip(0),
            "mode": padded(found[WHOLE].vectors, SHOWN).unflatten(1, self.model.shape).to(x.dtype),
        }

    @property
    def radius(self) -> float:
        """Distance up to which sites are near (sites)."""
        assert self.config.radius is not None
        return self.config.radius

    def _state(self, label: Label, trajectory: int, place: int) -> Tensor:
        """Return a held-out image, tiled, with the trajectory's noise at one level."""
        image = self.images[label][trajectory // len(self.denoisers)][None]
        times = [side // own for side, own in zip(self.model.shape[1:], image.shape[2:], strict=True)]
        noise = TrajectoryNoise(self.config.seed, [trajectory], self.device, (tag("attention"),))
        drawn = noise.fill_(torch.empty(1, *self.model.shape, dtype=self.dtype, device=self.device))
        return image.repeat(1, 1, *times).to(drawn) + float(self.levels[place]) * drawn

    @cached_property
    def _nulls(self) -> dict[tuple[Label, int], tuple[Matrix | None, float]]:
        return {}

    def _null(self, label: Label, place: int) -> tuple[Matrix | None, float]:
        """Return the Wiener null of a class at a level and its edge, found once."""
        if (label, place) not in self._nulls:
            images, gaussian = self.images[label], self.model.null(label)
            null = Null(
                self.model.shape,
                self.radius,
                images if len(images) >= FEWEST else None,
                None if gaussian is None else gaussian.spectrum,
            )
            sigma = float(self.levels[place])
            self._nulls[label, place] = null.matrix(sigma), null.edge(sigma)
        return self._nulls[label, place]
