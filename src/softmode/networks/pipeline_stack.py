"""Several conditions of a pipeline in one batch: each state has its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from softmode.networks.diffusers_denoiser import DiffusersDenoiser
from softmode.networks.pipeline_bind import BoundNetwork
from softmode.networks.pipeline_layout import Beside
from softmode.networks.pipeline_same import same


def bound_of(denoiser: DiffusersDenoiser) -> BoundNetwork:
    """Return the bound network of a pipeline's denoiser."""
    assert isinstance(denoiser.network, BoundNetwork)
    return denoiser.network


def stacked(networks: Sequence[BoundNetwork]) -> BoundNetwork | None:
    """Return the network of a batch with a condition for each state; None where the conditions do not fit together.

    Args:
        networks: The network of each state's condition, of one pipeline.
    """
    first = networks[0]
    if first.batched is None:
        return None
    try:
        others = {
            name: _together([each.others[name] for each in networks], first.batched[name]) for name in first.others
        }
        beside = _beside([each.beside for each in networks if each.beside is not None])
    # rows of another shape, or what all states share is another for each condition
    except (RuntimeError, ValueError):
        return None
    return replace(first, others=others, beside=beside, rows=len(networks))


def _beside(parts: Sequence[Beside]) -> Beside | None:
    """Return what is beside the state of each condition, a row for each."""
    if not parts:
        return None
    before, after = (torch.cat([getattr(each, name) for each in parts]) for name in ("before", "after"))
    return parts[0]._replace(before=before, after=after)


def _together(values: list[Any], batched: Any) -> Any:
    """Return an argument of several conditions, their rows one after the other.

    Raises:
        ValueError: If what has no rows is not the same for all, or tensors do not fit together (RuntimeError).
    """
    first = values[0]
    if isinstance(batched, dict):
        return {name: _together([each[name] for each in values], own) for name, own in batched.items()}
    if isinstance(batched, list):
        parts = zip(*values, strict=True)
        return type(first)(_together(list(each), own) for each, own in zip(parts, batched, strict=True))
    if batched:
        return torch.cat(values) if isinstance(first, Tensor) else type(first)(each for v in values for each in v)
    if not all(same(each, first) for each in values):
        raise ValueError("conditions differ in what all states share")
    return first
