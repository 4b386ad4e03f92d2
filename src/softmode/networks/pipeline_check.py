"""A bound network against the loop that it was recorded of: what the network is given, and what its scheduler makes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softmode.message import refusal
from softmode.networks.diffusers_denoiser import DiffusersDenoiser
from softmode.networks.diffusers_files import import_diffusers
from softmode.networks.diffusers_scheduler import HIGHEST, NoiseTable, is_flow, noise_table, step_levels
from softmode.networks.pipeline_bind import BoundNetwork, predicted
from softmode.networks.pipeline_record import BY_HAND, Recording, Step
from softmode.networks.pipeline_same import difference, same, tolerance, tolerance_of_batch
from softmode.networks.pipeline_stack import stacked

# by how much a scheduler that cuts its timesteps to whole numbers is off
ROUNDED = 1.0
# conditions that are asked for in one batch for trial
ASKED = 4


class Checked(NamedTuple):
    """How far a denoiser is from the pipeline that it was bound of.

    Attributes:
        given: Largest difference of an argument of the network, over all steps, of the argument's largest number.
        denoised: Largest difference of D from the scheduler's own estimate, of the largest number of the estimate or,
            where that is larger, of the noisy state; NaN where the scheduler tells none.
        steps: Steps at which the scheduler's estimate is known.
        remarks: What else is to be known.
    """

    given: float
    denoised: float
    steps: int
    remarks: tuple[str, ...]


def table_of(recording: Recording) -> NoiseTable:
    """Return the noise levels of a recorded loop by what it calls its timesteps.

    Some loops of flows name their steps by the time before the shift of the schedule: s = k u / (1 + (k - 1) u) where u
    = t / N; k is that of the recorded steps.
    """
    scheduler = recording.scheduler
    table, count = noise_table(scheduler), scheduler.config.get("num_train_timesteps", 1000)
    if table.kind != "flow":
        return table
    for step, level in zip(recording.steps, levels_of(recording), strict=True):
        s, u = level / (1 + level), step.timestep / count
        # beyond rounding, and where a scheduler has cut its timesteps to whole numbers
        if math.isfinite(level) and abs(s - u) * count > ROUNDED * 1.001 and 0 < u < 1:
            ahead = level * (1 - u) / u
            return replace(table, timesteps=count * table.levels / (table.levels + ahead), ahead=ahead)
    return table


def levels_of(recording: Recording) -> list[float]:
    """Return the noise level of each recorded step; the first need not be the scheduler's first."""
    scheduler, steps = recording.scheduler, recording.steps
    begin = scheduler.timesteps.tolist().index(steps[0].timestep)
    return step_levels(scheduler)[begin : begin + len(steps)].tolist()


@torch.no_grad()
def check_pipeline(denoiser: DiffusersDenoiser, recording: Recording, name: str) -> Checked:
    """Compare a denoiser with the loop that its network was recorded of.

    At every step the arguments of the network must be those of the loop, and so must its prediction; from each noise
    level that the network knows, the state and the time that D gives to the network must be those of the loop, and D
    must be the estimate of x_0 that the scheduler forms.

    Args:
        denoiser: Of a bound network.
        recording: Of one state of the same condition, without guidance.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If they differ, saying in what and by how much.
    """
    network: Any = denoiser.network
    scheduler, remarks = recording.scheduler, list[str]()
    if network.batched is None:
        remarks.append(f"{name} is not asked for several states at once; its network is asked for one after another")
    levels, whole = levels_of(recording), recording.steps[-1].timestep == float(scheduler.timesteps[-1])
    given, apart, known = 0.0, math.nan, 0
    for place, (step, level) in enumerate(zip(recording.steps, levels, strict=True)):
        fed = _fed(step, network)
        time = torch.tensor([step.timestep], dtype=torch.float64)
        given = max(given, _arguments_apart(network, step, fed, time, f"step {place} of {name}"))
        if not denoiser.table.range[0] * (1 - 1e-6) <= level < min(HIGHEST, float(denoiser.table.levels[-1]) * 1.001):
            continue
        x = _edm(denoiser, step, fed, level)
        x_t, own_time = denoiser.given(x, level)
        if (off := difference(x_t, fed)) > tolerance(network.dtype):
            raise refusal(
                f"model: at step {place} {name} gives its network a state that differs from alpha x at sigma = "
                f"{level:.4g} by {off:.2g}: {BY_HAND}"
            )
        given = max(given, off)
        late = abs(float(own_time[0]) - step.timestep) / max(abs(s.timestep) for s in recording.steps)
        if late > 10 * tolerance(torch.float32):
            if abs(float(own_time[0]) - step.timestep) > ROUNDED * 1.001:
                raise refusal(
                    f"model: at step {place} {name} is at timestep {step.timestep:g} where the noise level of its "
                    f"scheduler, {level:.4g}, is that of {float(own_time[0]):g}: {BY_HAND}"
                )
            remarks.append(
                f"{type(scheduler).__name__} makes its timesteps whole numbers; D takes those of the noise levels"
            )
        else:
            given = max(given, late)
        theirs, remark = _estimate(scheduler, step, whole and place == len(levels) - 1, network)
        remarks += [remark] if remark else []
        if theirs is None:
            continue
        ours = denoiser.estimate(x, level, predicted(step, network.layouts).to(x))
        scale = max(float(theirs.abs().max()), float(x.abs().max()))
        off = float((ours - theirs).abs().max()) / scale
        if off > tolerance(network.dtype) and (clipped := _clipped(ours, scheduler)) is not None:
            remarks.append(f"{type(scheduler).__name__} clips or thresholds its estimate of x_0, which D does not")
            off = float((clipped - theirs).abs().max()) / scale
        if off > tolerance(network.dtype):
            raise refusal(
                f"model: at step {place}, sigma = {level:.4g}, D differs from the estimate of x_0 of "
                f"{type(scheduler).__name__} by {off:.2g} of its largest value: {BY_HAND}"
            )
        apart, known = max(off, 0.0 if math.isnan(apart) else apart), known + 1
    if not known:
        remarks.append(f"{type(scheduler).__name__} does not tell its estimate of x_0, so D is not checked against it")
    return Checked(given, apart, known, tuple(dict.fromkeys(remarks)))


@torch.no_grad()
def check_branches(own: BoundNetwork, other: BoundNetwork, recording: Recording, name: str) -> float:
    """Return the largest difference of two branches' predictions from the two that a guided loop was given.

    Args:
        own: The condition.
        other: What it is guided away from.
        recording: Of one state of the condition, with guidance.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If they are not those.
    """
    worst = 0.0
    for step in recording.steps:
        fed, time = _fed(step, own)[:1], torch.tensor([step.timestep], dtype=torch.float64)
        ours = [network(fed, time) for network in (own, other)]
        outs = [out[i : i + 1] for out in (call.output for call in step.calls) for i in range(len(out))]
        theirs = [own.prediction(out).to(fed) for out in outs]
        # in whichever order they come
        orders = (theirs, theirs[::-1])
        worst = max(worst, min(max(map(difference, ours, each)) for each in orders))
    if worst > tolerance_of_batch(own.dtype):
        raise refusal(
            f"model: the two branches of the guidance of {name} differ from its own by {worst:.2g}: {BY_HAND}"
        )
    return worst


@torch.no_grad()
def fit_together(networks: Sequence[BoundNetwork], recording: Recording) -> bool:
    """Return whether conditions of a pipeline can be asked for in one batch, with the answers that each has alone.

    Args:
        networks: Of each condition; the answers of the first few are compared.
        recording: Of one state, without guidance.
    """
    if stacked(networks) is None:
        return False
    some, step = networks[:ASKED], recording.steps[0]
    fed, time = _fed(step, some[0]), torch.tensor([step.timestep], dtype=torch.float64)
    together = stacked(some)
    assert together is not None
    answers = together(fed.repeat(len(some), *[1] * (fed.ndim - 1)), time.expand(len(some)))
    near = tolerance_of_batch(some[0].dtype)
    return all(difference(answer[None], each(fed, time)) <= near for answer, each in zip(answers, some, strict=True))


def _fed(step: Step, network: BoundNetwork) -> Tensor:
    """Return the state that the loop gave to its network, as a field."""
    return network.fed(step.calls[0].arguments[network.state])


def _arguments_apart(network: BoundNetwork, step: Step, fed: Tensor, time: Tensor, where: str) -> float:
    """Return by how much what the network is called with differs from what the loop called it with."""
    ours, theirs = network.arguments(fed, time), step.calls[0].arguments
    worst = 0.0
    for argument, value in theirs.items():
        own = ours[argument]
        if argument == network.time:
            # a loop may give one time for all states
            told, asked = (float(torch.as_tensor(each).flatten()[0]) for each in (value, own))
            off = abs(told - asked) / max(1.0, abs(told))
        else:
            off = difference(own, value)
        if off > tolerance(network.dtype):
            raise refusal(
                f"model: at {where} its network's {argument} differs by {off:.2g} from what it is called with"
            )
        worst = max(worst, off)
    out = network(fed, time)
    if (off := difference(out, predicted(step, network.layouts).to(out))) > tolerance(network.dtype):
        raise refusal(f"model: at {where} its network answers two equal calls differently, by {off:.2g}")
    return worst


def _edm(denoiser: DiffusersDenoiser, step: Step, fed: Tensor, level: float) -> Tensor:
    """Return the scheduler's state in EDM coordinates: some keep it as the network sees it, others as x_0 + noise."""
    network: Any = denoiser.network
    sample = network.layouts.scheduler.gather(step.sample)
    alpha = denoiser.table.amplitudes(torch.tensor(level, dtype=torch.float64))[0].to(sample.device)
    own = same(sample, fed) and denoiser.table.kind != "edm"
    return (sample.double() / alpha if own else sample.double()).float()


def _estimate(scheduler: Any, step: Step, last: bool, network: BoundNetwork) -> tuple[Tensor | None, str]:
    """Return the estimate of x_0 that a scheduler forms, and a remark; None where there is no way to know it."""
    config, gather = scheduler.config, network.layouts.scheduler.gather
    if step.denoised is not None:
        return gather(step.denoised), ""
    ends = getattr(scheduler, "sigmas", None) is not None and float(scheduler.sigmas[-1]) == 0
    # without a lower order at its end, a multistep scheduler does not end in its own estimate
    first_order = type(scheduler).__name__.startswith("FlowMatch") or any(
        config.get(each) for each in ("lower_order_final", "euler_at_final")
    )
    if last and ends and first_order:
        return gather(step.following), ""
    if is_flow(scheduler) or ends or not hasattr(scheduler, "alphas_cumprod"):
        return None, ""
    # PNDM and others that tell nothing: DDIM of the same noise and prediction forms the same estimate
    stand_in = import_diffusers().DDIMScheduler.from_config(config, clip_sample=False, thresholding=False)
    stand_in.set_timesteps(stand_in.config.num_train_timesteps)
    made = stand_in.step(step.prediction[:, : step.sample.shape[1]], int(step.timestep), step.sample)
    return gather(made.pred_original_sample), (
        f"{type(scheduler).__name__} does not tell its estimate of x_0; D is checked against that of DDIM in its place"
    )


def _clipped(denoised: Tensor, scheduler: Any) -> Tensor | None:
    """Return D clipped as a scheduler says that it clips its own estimate; None where it says nothing of it."""
    config = scheduler.config
    if config.get("thresholding"):
        return scheduler._threshold_sample(denoised)
    if config.get("clip_sample"):
        most = config.get("clip_sample_range", 1.0)
        return denoised.clamp(-most, most)
    return None
