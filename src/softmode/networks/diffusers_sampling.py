"""How a diffusers scheduler is asked for a sampler's steps: with which shift, levels or timesteps besides their number.

Many a pipeline hands its scheduler more than a number of steps. What those of `PIPELINES` do is known, and compared
with their own loops; for any other the scheduler is asked for the number and, if the user gives it, mu.
"""

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softmode.files import DIRECTORY, FILE, kind_of, read_json
from softmode.message import first_line, refusal
from softmode.networks.diffusers_files import INDEX, find_parts, import_diffusers, load_part
from softmode.networks.diffusers_scheduler import is_dynamic, is_flow, needs_mu

# more steps than any sampler takes; their levels fit into memory many times over
MOST_STEPS = 100_000
# |mu| beyond which all steps but the first and last are at one end; pipelines compute 0.3 to 3
MOST_MU = 20.0


# as Python's users write them
Numbers = Sequence[float | int] | np.ndarray | Tensor


class Asked(NamedTuple):
    """What a pipeline asks its scheduler for, besides a number of steps.

    Attributes:
        mu: Of a shift that depends on the size of an image.
        sigmas: The scheduler's own levels, before its shift.
        timesteps: Its timesteps.
    """

    mu: float | None = None
    sigmas: Numbers | None = None
    timesteps: Numbers | None = None


NOTHING = Asked()


def set_steps(scheduler: Any, steps: int | None, asked: Asked = NOTHING) -> Any:
    """Return a copy of a scheduler after its set_timesteps.

    Args:
        scheduler: The scheduler, which is left as it is: a pipeline's own keeps its timesteps.
        steps: Number of steps; None where the levels or timesteps are given one by one.
        asked: What else it is asked for.

    Raises:
        ValueError: If the scheduler makes no such steps, or does not take what it is asked for.
    """
    name = type(scheduler).__name__
    settings = _settings(scheduler, asked, check_mu(scheduler, asked.mu))
    if steps is not None:
        if not 1 <= steps <= MOST_STEPS:
            raise refusal(f"sampler_steps: got {steps}; expected 1 to {MOST_STEPS}")
        if not {"sigmas", "timesteps"} & settings.keys():
            settings["num_inference_steps"] = steps
    elif not {"sigmas", "timesteps"} & settings.keys():
        raise refusal(f"sampler_steps: got None; expected 1 to {MOST_STEPS}, or sigmas or timesteps")
    scheduler = copy.deepcopy(scheduler)
    try:
        scheduler.set_timesteps(**settings)
    # whatever it raises of what it cannot take: AssertionError, IndexError, ...
    except Exception as error:
        what = next(each for each in ("sigmas", "timesteps", "num_inference_steps") if each in settings)
        got = f"sampler_steps: got {steps}" if what == "num_inference_steps" else f"{what}: got {_few(settings[what])}"
        raise refusal(f"{got}, of which {name} makes no schedule: {first_line(error)[:150]}") from None
    # those of second order call the network twice in all steps but one
    made = math.ceil(len(scheduler.timesteps) / getattr(scheduler, "order", 1))
    if steps is not None and "num_inference_steps" not in settings and made != steps:
        what = "sigmas" if asked.sigmas is not None else "timesteps"
        raise refusal(f"{what}: got {made} step{'s' * (made != 1)} of {name} in place of {steps}: give as many")
    return scheduler


def check_mu(scheduler: Any, mu: float | None) -> float | None:
    """Return mu if a scheduler takes it.

    Raises:
        ValueError: If it has no shift that depends on mu, needs one that is not there, or mu is no number of a shift.
    """
    name = type(scheduler).__name__
    if mu is None:
        if needs_mu(scheduler):
            raise refusal(
                f"mu: {name} shifts its steps by the size of an image (use_dynamic_shifting), which is not known here; "
                "give --mu, in Python mu=, what the pipeline computes of it"
            )
        return None
    if not is_dynamic(scheduler):
        fixed = " has a fixed shift" if is_flow(scheduler) else " shifts nothing"
        raise refusal(f"mu: got {mu:g}; {name}{fixed}, without use_dynamic_shifting: leave it out")
    # the exponential shift is exp(mu), the linear one is mu itself
    linear = scheduler.config.get("time_shift_type") == "linear"
    if not (0 < mu <= MOST_MU if linear else -MOST_MU <= mu <= MOST_MU):
        expected = f"above 0 and at most {MOST_MU:g}" if linear else f"{-MOST_MU:g} to {MOST_MU:g}"
        raise refusal(f"mu: got {mu:g}; expected {expected}, for example 1.15")
    return mu


def _settings(scheduler: Any, asked: Asked, mu: float | None) -> dict[str, Any]:
    """Return the arguments of a scheduler's set_timesteps."""
    taken = inspect.signature(scheduler.set_timesteps).parameters
    settings: dict[str, Any] = {} if mu is None else {"mu": mu}
    for name in ("sigmas", "timesteps"):
        given = getattr(asked, name)
        if given is None:
            continue
        if name not in taken:
            raise refusal(f"{name}: got {_few(given)}; {type(scheduler).__name__} takes none: leave it out")
        numbers = np.asarray(given, dtype=float)
        if numbers.ndim != 1 or not 1 <= len(numbers) <= MOST_STEPS or not np.isfinite(numbers).all():
            raise refusal(f"{name}: got {_few(given)}; expected 1 to {MOST_STEPS} finite numbers, a falling list")
        if (np.diff(numbers) >= 0).any() or numbers[-1] < 0:
            raise refusal(f"{name}: got {_few(given)}; expected falling numbers, not negative, the first step first")
        settings[name] = numbers
    # some take lists alone, some arrays, EDM's tensors; timesteps are whole where they are given so
    if "timesteps" in settings:
        numbers = settings["timesteps"]
        settings["timesteps"] = (numbers.astype(int) if (numbers == numbers.round()).all() else numbers).tolist()
    elif "sigmas" in settings and type(scheduler).__name__.startswith("EDM"):
        settings["sigmas"] = torch.from_numpy(settings["sigmas"]).float()
    return settings


def _few(numbers: Any) -> str:
    """Return some numbers in short."""
    shown = [f"{float(each):g}" for each in list(numbers)[:3]]
    return f"[{', '.join(shown)}{', ...' * (len(numbers) > 3)}]"


def linear_mu(config: Mapping[str, Any], tokens: int, most: float = 1.15) -> float:
    """Return mu on the straight line through base_shift and max_shift at two lengths of a sequence.

    Args:
        config: The scheduler's config.
        tokens: Length of the sequence of an image.
        most: max_shift where the config has none.
    """
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", most)
    return float(base + (top - base) * (tokens - low) / (high - low))


def root_mu(config: Mapping[str, Any], tokens: int) -> float:
    """Return mu that grows with the root of the length of a sequence, as CogView4 has it."""
    ratio = math.sqrt(tokens / config.get("base_image_seq_len", 256))
    return float(ratio * config.get("max_shift", 0.75) + config.get("base_shift", 0.25))


def even(scheduler: Any, steps: int) -> Asked:
    """Return a flow's times 1, 1 - 1/N, ... 1/N of N steps; a solver with use_flow_sigmas makes its own."""
    if scheduler.config.get("use_flow_sigmas"):
        return NOTHING
    return Asked(sigmas=np.linspace(1.0, 1 / steps, steps).tolist())


def whole(scheduler: Any, steps: int) -> Asked:
    """Return whole timesteps from the number of training down to 1, and the times that these are before the shift."""
    count = scheduler.config.get("num_train_timesteps", 1000)
    timesteps = np.linspace(count, 1, steps).astype(np.int64)
    return Asked(sigmas=(timesteps / count).tolist(), timesteps=timesteps.tolist())


def plain(scheduler: Any, steps: int) -> Asked:
    """Return nothing."""
    return NOTHING


class Pipeline(NamedTuple):
    """How a kind of pipeline asks its scheduler for steps.

    Attributes:
        asked: What it asks for besides their number, without mu.
        mu: mu of the scheduler's config and the length of a sequence.
        tokens: That length, of the shape of a state (channel, *space) and the network's config.
        size: Side of its states where neither the user nor the network's config says so.
    """

    asked: Callable[[Any, int], Asked]
    mu: Callable[[Mapping[str, Any], int], float]
    tokens: Callable[[Sequence[int], Mapping[str, Any]], int]
    size: int


def _packed(shape: Sequence[int], config: Mapping[str, Any]) -> int:
    return math.prod(shape) // int(config["in_channels"])


def _patched(shape: Sequence[int], config: Mapping[str, Any]) -> int:
    return math.prod(side // int(config["patch_size"]) for side in shape[1:])


def _channels(shape: Sequence[int], config: Mapping[str, Any]) -> int:
    # the pipeline takes the axis of channels for the sequence
    return shape[0]


PIPELINES = {
    "FluxPipeline": Pipeline(even, linear_mu, _packed, 128),
    "ChromaPipeline": Pipeline(even, linear_mu, _packed, 128),
    "StableDiffusion3Pipeline": Pipeline(plain, lambda config, n: linear_mu(config, n, 1.16), _patched, 128),
    "CogView4Pipeline": Pipeline(whole, root_mu, _patched, 128),
    "Lumina2Pipeline": Pipeline(even, linear_mu, _channels, 128),
    "QwenImagePipeline": Pipeline(even, linear_mu, _packed, 128),
}


class Sampling(NamedTuple):
    """The scheduler of a pipeline on disk, with what is known of how the pipeline asks it for steps.

    Attributes:
        scheduler: The scheduler.
        mu: Of its shift; None where it has none, or it is not known.
        pipeline: How its pipeline asks; None where that kind is not known.
    """

    scheduler: Any
    mu: float | None = None
    pipeline: Pipeline | None = None

    def asked(self, steps: int) -> Asked:
        """Return what the scheduler is asked for besides so many steps."""
        own = NOTHING if self.pipeline is None else self.pipeline.asked(self.scheduler, steps)
        return own._replace(mu=self.mu)


def load_sampling(source: str, shape: Sequence[int] = (), mu: float | None = None) -> Sampling:
    """Return the scheduler of a model of `load_diffusers`, and how it is asked for steps.

    Args:
        source: Directory, or id on the hub.
        shape: Shape of a state; the pipeline's own size when left out.
        mu: What the user gives for a shift that depends on that size; computed as the pipeline does when left out.

    Raises:
        ValueError: If diffusers is not installed, there is no scheduler, or it takes no mu.
    """
    source = source.removeprefix("diffusers:")
    parts = find_parts(source)
    scheduler = load_part(source, parts, "scheduler")
    pipeline = PIPELINES.get(_kind(source))
    if mu is not None:
        check_mu(scheduler, mu)
    elif is_dynamic(scheduler) and pipeline is not None:
        config = _config(source, *parts["network"])
        # of a network that is none of its pipeline's, nothing is known
        with contextlib.suppress(LookupError, TypeError, ValueError, ArithmeticError):
            mu = pipeline.mu(scheduler.config, pipeline.tokens(tuple(shape) or _own_shape(pipeline, config), config))
    return Sampling(scheduler, mu, pipeline)


def _own_shape(pipeline: Pipeline, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of a pipeline's state when it is not told."""
    size, channels = config.get("sample_size") or pipeline.size, int(config["in_channels"])
    sides = (size, size) if isinstance(size, int) else tuple(size)
    # tokens of packed states hold 2 x 2 sites each
    return (channels // 4 if pipeline.tokens is _packed else channels, *sides)


def _kind(source: str) -> str:
    """Return the name of a pipeline's class; none of a bare network."""
    home = Path(source)
    if kind_of(home) == DIRECTORY:
        return str(read_json("model", home / INDEX).get("_class_name")) if kind_of(home / INDEX) == FILE else ""
    return str(import_diffusers().DiffusionPipeline.load_config(source).get("_class_name"))


def _config(source: str, name: str, folder: str) -> Mapping[str, Any]:
    """Return the config of a pipeline's network."""
    home = Path(source)
    if kind_of(home) == DIRECTORY:
        return read_json("model", home / folder / "config.json")
    config: Mapping[str, Any] = getattr(import_diffusers(), name).load_config(source, subfolder=folder)
    return config
