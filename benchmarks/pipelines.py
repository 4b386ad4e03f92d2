"""Which pipelines of diffusers softmode reads, and how far its denoisers are from them.

    python benchmarks/pipelines.py          # every family
    python benchmarks/pipelines.py --small  # three of them
    python benchmarks/pipelines.py Z-Image  # of some names

For each family a tiny random pipeline is built from a config. A row says whether it is accepted; the largest difference
between what its network is called with in its own loop and by softmode, of an argument's largest number; the largest
difference of D from the estimate of x_0 that its own scheduler forms; and how many steps of its own loop, of those
whose noise levels lie inside, a window is guided at and at no other, by the callback that softmode exports and by
guided_within.
"""

import argparse
import contextlib
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

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.own_loop import weight
from helpers.pipeline_parts import picture
from helpers.pipelines import FAMILIES, Tiny, with_controlnet, with_experts
from softmode.guidance.guider import guidance_callback
from softmode.guidance.own_loop import guided_within
from softmode.guidance.weights import Interval
from softmode.networks.pipeline import Opened, open_pipeline
from softmode.networks.pipeline_check import levels_of
from softmode.networks.pipeline_record import EnoughError, Recording, network_of, watched

PROMPTS, NEGATIVE = ["a b"], "c"
# a window of noise levels, the scale inside, and the steps of the loop
LOW, HIGH, SCALE, STEPS = 0.3, 3.0, 3.0, 10
SMALL = ("SD 1, 2", "SD 3", "DDPM")
REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Wan 2.2, two experts": (with_experts, {"prompts": ["a"]}),
    "ControlNet": (with_controlnet, {"prompts": ["a"], "image": picture()}),
}


def row(name: str, tiny: Tiny) -> str:
    """Return the row of a family."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = open_pipeline(tiny.build(), PROMPTS if tiny.text else (), None, tiny.size, **tiny.call)
            guided = in_its_own_loop(opened, tiny)
        except ValueError as error:
            return f"{name} | refused | {error}"
    checked = opened.checked
    return f"{name} | accepted | {checked.given:.1e} | {checked.denoised:.1e} | {guided}"


def in_its_own_loop(opened: Opened, tiny: Tiny) -> str:
    """Return how many steps an exported window guides, of those whose noise levels lie inside, and by which way."""
    live, pipe = opened.live, opened.live.pipe
    if live.guidance.on is None:
        return "no guidance | no guidance"
    own, other = live.denoiser(live.condition), live.other_branch(live.condition)
    network: Any = own.network
    knob = next(iter(live.guidance.off or live.guidance.on))
    pipe.set_progress_bar_config(disable=True)

    def loop(scale: float, **extra: Any) -> Recording:
        found = Recording(pipe.scheduler)
        call = live.arguments(live.condition) | (live.guidance.on or {}) | {
            "num_inference_steps": STEPS, knob: scale, "output_type": "latent",
            "generator": torch.Generator().manual_seed(0),
        } | extra  # fmt: skip
        with torch.no_grad(), contextlib.suppress(EnoughError), watched(pipe, network_of(pipe)[1], found, 0):
            pipe(**call)
        return found

    def counted(found: Recording) -> str:
        inside = Interval(LOW, HIGH)(torch.tensor(levels_of(found), dtype=torch.float64)) > 0
        weights = torch.tensor([weight(step, network, other.network) for step in found.steps])
        # some rescale what guidance makes of the two
        guided = weights.abs() > abs(strength) / 2
        wrong = int((weights[~inside].abs() > 0.01).sum())
        return f"{int(guided[inside].sum())} of {int(inside.sum())}" + (f", and {wrong} outside" if wrong else "")

    # Z-Image adds its scale times the difference, others less by one
    strength = weight(loop(SCALE).steps[0], network, other.network)
    with guided_within(pipe, LOW, HIGH, tiny.size, **tiny.call):
        found = loop(SCALE)
    any_loop = counted(found)
    if "callback_on_step_end" not in live.taken:
        return f"no callback | {any_loop}"
    if knob != "guidance_scale":
        return f"its scale is an input of the network | {any_loop}"
    asked: dict[str, Any] = {}
    kind = type(pipe.scheduler)
    set_timesteps = kind.set_timesteps

    @functools.wraps(set_timesteps)
    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        asked.update({name: kwargs[name] for name in ("mu", "sigmas", "timesteps") if kwargs.get(name) is not None})
        set_timesteps(self, *args, **kwargs)

    with mock.patch.object(kind, "set_timesteps", noted):
        first = loop(SCALE).steps[0].timestep
    if not pipe.scheduler.config.get("use_dynamic_shifting"):
        # a loop may tell its mu to a scheduler that does not ask
        asked.pop("mu", None)
    if any(name not in inspect.signature(guidance_callback).parameters for name in asked):
        return f"needs {', '.join(asked)} | {any_loop}"
    begin = pipe.scheduler.timesteps.tolist().index(first)
    scale, callback = guidance_callback(pipe.scheduler, STEPS, LOW, HIGH, SCALE, begin, **asked)
    return f"{counted(loop(scale, callback_on_step_end=callback))} | {any_loop}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="three families")
    parser.add_argument("names", nargs="*", help="families; all when left out")
    asked = parser.parse_args()
    chosen = asked.names or (SMALL if asked.small else FAMILIES)
    logging.disable(logging.WARNING)
    print(f"diffusers {importlib.metadata.version('diffusers')}, window {LOW:g} < sigma <= {HIGH:g}, {STEPS} steps")
    print("family | | network's arguments | D | by guidance_callback | by guided_within")
    for name, tiny in FAMILIES.items():
        if name in chosen:
            print(row(name, tiny), flush=True)
    for name, (build, call) in REFUSED.items():
        try:
            open_pipeline(build(), **call)
        except ValueError as error:
            print(f"{name} | refused | {error}")


if __name__ == "__main__":
    main()
