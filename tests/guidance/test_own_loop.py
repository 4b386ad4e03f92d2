"""A window in a pipeline's own loop: guided inside, at the weight that was asked for, and at no step outside."""

import contextlib
from typing import Any

import pytest
import torch

from helpers.errors import refused
from helpers.own_loop import weight
from helpers.pipelines import FAMILIES, lcm
from softmode.guidance.own_loop import guided_by, guided_within
from softmode.guidance.weights import Interval, Weights
from softmode.networks.pipeline import open_pipeline
from softmode.networks.pipeline_check import levels_of
from softmode.networks.pipeline_record import EnoughError, Recording, network_of, watched

LOW, HIGH, SCALE, STEPS = 0.3, 3.0, 3.0, 8
SCHEDULE = Weights(
    torch.tensor([12.0, 3.0, 0.8, 0.2], dtype=torch.float64),
    torch.tensor([0.0, 2.5, 1.0, -0.5], dtype=torch.float64),
)


@pytest.mark.filterwarnings("ignore:model:UserWarning")
@pytest.mark.parametrize("name", ["SD 1, 2", "DiT", "SD 3", "Wan", "Flux", "SD from an image", "Z-Image"])
def test_guidance_by_level_in_its_own_loop(name: str) -> None:
    """Rows of one call in either order, two calls, lists, another scale, a late begin; twice, and not afterwards.

    First a window, then a schedule of several weights, one of them negative.
    """
    # Z-Image adds its scale times the difference of the branches, others less by one
    strength = SCALE if name == "Z-Image" else SCALE - 1
    tiny = FAMILIES[name]
    pipe = tiny.build()
    live = open_pipeline(pipe, ["a b"] if tiny.text else (), None, tiny.size, **tiny.call).live
    own, other = live.denoiser(live.condition), live.other_branch(live.condition)
    knob = next(iter(live.guidance.off or live.guidance.on or {}))
    pipe.set_progress_bar_config(disable=True)

    def loop() -> Recording:
        found = Recording(pipe.scheduler)
        call = live.arguments(live.condition) | (live.guidance.on or {}) | {knob: SCALE, "num_inference_steps": STEPS}
        with torch.no_grad(), contextlib.suppress(EnoughError), watched(pipe, network_of(pipe)[1], found, 0):
            pipe(**call, generator=torch.Generator().manual_seed(0))
        return found

    def weights(found: Recording) -> torch.Tensor:
        return torch.tensor([weight(step, own.network, other.network) for step in found.steps])

    with guided_within(pipe, LOW, HIGH, tiny.size, **tiny.call):
        first, second = loop(), loop()
    inside = Interval(LOW, HIGH)(torch.tensor(levels_of(first), dtype=torch.float64))
    assert 0 < int((inside > 0).sum()) < len(inside)
    for found in (first, second):
        torch.testing.assert_close(weights(found).double(), strength * inside, rtol=0, atol=0.02)
    torch.testing.assert_close(weights(loop()), torch.full((len(inside),), strength), rtol=0, atol=0.02)
    with guided_by(pipe, SCHEDULE, strength, tiny.size, **tiny.call):
        found = loop()
    expected = SCHEDULE(torch.tensor(levels_of(found), dtype=torch.float64))
    assert len(expected.unique()) > 1
    torch.testing.assert_close(weights(found).double(), expected, rtol=0, atol=0.02)
    assert "step" not in vars(pipe.scheduler)


def test_without_two_branches_there_is_nothing_to_do() -> None:
    pipe: Any = lcm()
    with (
        refused("guide: LatentConsistencyModelPipeline has no branch to guide away from"),
        guided_within(pipe, 1.0, 2.0, (16, 16)),
    ):
        pass
    with (
        refused("own_weight: got 0; expected the weight of the pipeline's scale s, s - 1, above 0"),
        guided_by(pipe, SCHEDULE, 0.0, (16, 16)),
    ):
        pass
