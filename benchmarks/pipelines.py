"""Which pipelines of diffusers softmode reads, and how far its denoisers are from them.

    python benchmarks/pipelines.py          # every family
    python benchmarks/pipelines.py --small  # three of them

For each family a tiny random pipeline is built from a config. A row says whether it is accepted; the largest difference
between what its network is called with in its own loop and by softmode, of an argument's largest number; the largest
difference of D from the estimate of x_0 that its own scheduler forms; and how many steps of its own loop, of those
whose noise levels lie inside, a window exported by softmode guides.
"""

import argparse
import functools
import importlib.metadata
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.pipelines import FAMILIES, Tiny, with_experts

from softmode.guidance.guider import guidance_callback
from softmode.guidance.weights import Interval
from softmode.networks.diffusers_scheduler import step_levels
from softmode.networks.pipeline import Opened, open_pipeline
from softmode.networks.pipeline_record import Recording, network_of, watched

PROMPTS, NEGATIVE = ["a b"], "c"
# a window of noise levels, the scale inside, and the steps of the loop
LOW, HIGH, SCALE, STEPS = 0.3, 3.0, 3.0, 10
SMALL = ("SD 1, 2", "SD 3", "DDPM")
REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Wan 2.2, two experts": (with_experts, {"prompts": ["a"]})
}


def row(name: str, tiny: Tiny) -> str:
    """Return the row of a family."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = open_pipeline(tiny.build(), PROMPTS if tiny.text else (), None, tiny.size, **tiny.call)
            guided = in_its_own_loop(opened)
        except ValueError as error:
            return f"{name} | refused | {error}"
    checked = opened.checked
    return f"{name} | accepted | {checked.given:.1e} | {checked.denoised:.1e} | {guided}"


def in_its_own_loop(opened: Opened) -> str:
    """Return how many steps an exported window guides, of those whose noise levels lie inside."""
    live, pipe = opened.live, opened.live.pipe
    if live.guidance.on is None:
        return "no guidance"
    if "callback_on_step_end" not in live.taken:
        return "no callback"
    if "guidance_scale" not in (live.guidance.off or live.guidance.on):
        return "guides by true_cfg_scale"
    what = live.condition
    own, other = live.denoiser(what), live.other_branch(what)
    network: Any = own.network
    asked: dict[str, Any] = {}
    kind = type(pipe.scheduler)
    set_timesteps = kind.set_timesteps

    @functools.wraps(set_timesteps)
    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        asked.update({name: kwargs[name] for name in ("mu", "sigmas", "timesteps") if kwargs.get(name) is not None})
        set_timesteps(self, *args, **kwargs)

    def loop(scale: float, callback: Any = None) -> Recording:
        found = Recording(pipe.scheduler)
        call = live.arguments(what) | {"num_inference_steps": STEPS, "guidance_scale": scale, "output_type": "latent"}
        extra = {"generator": torch.Generator().manual_seed(0)} | (
            {"callback_on_step_end": callback} if callback else {}
        )
        pipe.set_progress_bar_config(disable=True)
        with torch.no_grad(), watched(pipe, network_of(pipe)[1], found, 0), leaving():
            pipe(**call, **extra)
        return found

    with mock.patch.object(kind, "set_timesteps", noted):
        loop(SCALE)
    taken = inspect.signature(guidance_callback).parameters
    if any(name not in taken for name in asked):
        return f"needs {', '.join(asked)}"
    scale, callback = guidance_callback(pipe.scheduler, STEPS, LOW, HIGH, SCALE, **asked)
    found = loop(scale, callback)
    inside = Interval(LOW, HIGH)(step_levels(pipe.scheduler)[: len(found.steps)]) > 0
    weights = torch.tensor([weight(step, network, other.network) for step in found.steps])
    right = (weights > (SCALE - 1) / 2) == inside
    text = f"{int((weights > (SCALE - 1) / 2)[inside].sum())} of {int(inside.sum())}"
    return text if bool(right.all()) else f"{text}, wrong at {int((~right).sum())} steps"


class leaving:  # noqa: N801  # used as contextlib's own
    """Ends quietly when a recording leaves its loop."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return kind is not None and kind.__name__ == "_EnoughError"


def weight(step: Any, network: Any, other: Any) -> float:
    """Return the weight w of D + w (D - D_guide) of which a step's prediction is made."""
    laid = network.layouts
    rows = step.calls[0].arguments[network.state][:1]
    x_t = laid.network.gather(rows if laid.network.order is not None else rows[:, : laid.network.field[0]])
    t = torch.tensor([step.timestep], dtype=torch.float64)
    with torch.no_grad():
        own, without = network(x_t, t), other(x_t, t)
    given: Tensor = step.prediction
    given = laid.scheduler.gather(given if laid.scheduler.order is not None else given[:1, : own.shape[1]])
    apart = own - without
    return float(((given - own) * apart).sum() / apart.square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="three families")
    small = parser.parse_args().small
    logging.disable(logging.WARNING)
    print(f"diffusers {importlib.metadata.version('diffusers')}, window {LOW:g} < sigma <= {HIGH:g}, {STEPS} steps")
    print("family | | network's arguments | D | steps guided in its own loop")
    for name, tiny in FAMILIES.items():
        if not small or name in SMALL:
            print(row(name, tiny), flush=True)
    for name, (build, call) in REFUSED.items():
        try:
            open_pipeline(build(), **call)
        except ValueError as error:
            print(f"{name} | refused | {error}")


if __name__ == "__main__":
    main()
