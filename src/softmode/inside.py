"""Which torch modules something that can be called holds."""

import functools
import types
from collections.abc import Iterable
from dataclasses import fields, is_dataclass

from torch import nn

# how deep a network may lie inside what makes a denoiser of it
DEPTH = 6


def networks_in(denoiser: object) -> list[nn.Module]:
    """Return the torch modules that a denoiser holds: itself, in its attributes, or in what a function closes over.

    Of a compiled module that is the one which was compiled: derivatives are taken of it, and hooks set on it.
    """
    found, seen, layer = dict[int, nn.Module](), set[int](), [denoiser]
    for _ in range(DEPTH):
        layer = [each for each in layer if id(each) not in seen]
        seen |= {id(each) for each in layer}
        modules = [uncompiled(each) for each in layer if isinstance(each, nn.Module)]
        found |= {id(each): each for each in modules}
        layer = [held for each in layer if not isinstance(each, nn.Module) for held in _held(each)]
    return list(found.values())


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile was given; any other as it is."""
    inner = getattr(module, "_orig_mod", module)
    return inner if isinstance(inner, nn.Module) else module


def without_numbers(module: nn.Module) -> bool:
    """Return whether weights of a module are on the meta device, and nothing will move numbers there for a call."""
    # accelerate keeps weights that it offloads so, and hooks that fetch them
    if any(hasattr(each, "_hf_hook") for each in module.modules()):
        return False
    return any(weight.is_meta for weight in (*module.parameters(), *module.buffers()))


def _held(thing: object) -> Iterable[object]:
    """Return what something that can be called, or a collection, holds."""
    if isinstance(thing, type):
        return []
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__]
    if isinstance(thing, types.FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        named = [thing.__globals__.get(name) for name in thing.__code__.co_names]
        return cells + [each for each in named if isinstance(each, nn.Module)]
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, list | tuple):
        return list(thing)
    if is_dataclass(thing):
        return [getattr(thing, field.name, None) for field in fields(thing)]
    return list(vars(thing).values()) if callable(thing) and hasattr(thing, "__dict__") else []


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 # raises where the cell is empty
    except ValueError:
        return False
    return True
