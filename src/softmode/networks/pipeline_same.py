"""Whether two arguments of a network are the same, up to rounding: tensors, and dicts and lists of them."""

import math
from typing import Any

import torch
from torch import Tensor

# relative difference up to which two numbers of a loop are the same, in float32
SAME = 1e-5
# unit roundoff of half precision, and how many of them two numbers may be apart: a network of 64 layers, each of which
# rounds on its own, is off by the root of 64; a time, which is divided and subtracted, by one for each and one to spare
ROUNDOFF = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
LAYERS, STEPS_OF_TIME = 8, 2


def tolerance(*dtypes: torch.dtype) -> float:
    """Return the relative difference up to which numbers of some types are the same."""
    return max((LAYERS * ROUNDOFF[dtype] if dtype in ROUNDOFF else SAME for dtype in dtypes), default=SAME)


def tolerance_of_batch(dtype: torch.dtype) -> float:
    """Return the relative difference up to which answers to one state and to several are the same."""
    return max(10 * SAME, tolerance(dtype))


def same_times(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> bool:
    """Return whether times are the same, float64 [step], where the second went through another type."""
    if dtype not in ROUNDOFF:
        return bool((ours - theirs).abs().max() <= SAME * max(float(theirs.abs().max()), 1.0))
    return bool(((ours - theirs).abs() <= STEPS_OF_TIME * ROUNDOFF[dtype] * theirs.abs()).all())


def difference(a: Any, b: Any) -> float:
    """Return the largest difference between two arguments, of the largest number of the second; inf of unlike ones."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            return math.inf
        if not b.numel():
            return 0.0
        apart = float((a.double() - b.double().to(a.device)).abs().max())
        return 0.0 if not apart else apart / max(float(b.double().abs().max()), torch.finfo(torch.float64).tiny)
    if isinstance(a, dict) and isinstance(b, dict):
        return max((difference(a[name], b[name]) for name in a), default=0.0) if a.keys() == b.keys() else math.inf
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return max(map(difference, a, b), default=0.0) if len(a) == len(b) else math.inf
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return math.inf
    return 0.0 if a == b else math.inf


def same(a: Any, b: Any) -> bool:
    """Return whether two arguments are the same up to rounding."""
    return difference(a, b) <= tolerance(*_dtypes(a), *_dtypes(b))


def _dtypes(value: Any) -> list[torch.dtype]:
    if isinstance(value, Tensor):
        return [value.dtype]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [dtype for part in parts for dtype in _dtypes(part)]
