"""Noise levels of diffusers' schedulers: what they themselves say, both ways, in every unit."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch

from softmode.networks.diffusers_scheduler import noise_table, step_at, step_levels
from softmode.process import VP
from softmode.rounding import rounding_at, within
from softmode.timesteps import from_discrete

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddpm-cosine": ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2"}),
    "ddim": ("DDIMScheduler", SCALED),
    "ddim-zero-snr": ("DDIMScheduler", SCALED | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    "pndm": ("PNDMScheduler", SCALED),
    "euler": ("EulerDiscreteScheduler", SCALED),
    "euler-karras": ("EulerDiscreteScheduler", SCALED | {"use_karras_sigmas": True}),
    "euler-trailing": ("EulerDiscreteScheduler", SCALED | {"timestep_spacing": "trailing"}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", SCALED),
    "heun": ("HeunDiscreteScheduler", SCALED),
    "lms": ("LMSDiscreteScheduler", SCALED),
    "kdpm2": ("KDPM2DiscreteScheduler", SCALED),
    "dpm": ("DPMSolverMultistepScheduler", SCALED),
    "dpm-karras": ("DPMSolverMultistepScheduler", SCALED | {"use_karras_sigmas": True}),
    "dpm-single": ("DPMSolverSinglestepScheduler", SCALED | {"lower_order_final": True}),
    "deis": ("DEISMultistepScheduler", SCALED),
    "unipc": ("UniPCMultistepScheduler", SCALED),
    "unipc-flow": (
        "UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    ),
    "lcm": ("LCMScheduler", SCALED),
    "edm-euler": ("EDMEulerScheduler", {}),
    "edm-dpm": ("EDMDPMSolverMultistepScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow-euler-shifted": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 2.0}),
}  # fmt: skip
variants = pytest.mark.parametrize("variant", VARIANTS)


def make(variant: str) -> Any:
    name, config = VARIANTS[variant]
    return getattr(diffusers, name)(**config)


@variants
def test_noise_is_added_at_the_level_that_the_table_says(variant: str) -> None:
    """The scheduler's own add_noise, by its own timesteps, gives x_t = alpha x_0 + sigma eps of our amplitudes."""
    scheduler = make(variant)
    table = noise_table(scheduler)
    x_0, eps = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    # the first call may be at an infinite level
    # not between the two calls of a step of second order, at whose place some add another step's noise
    for i in (2, 4):
        scheduler.set_timesteps(8)  # some remember the first timestep that they are asked for
        t = scheduler.timesteps[i : i + 1]
        add = scheduler.scale_noise if hasattr(scheduler, "scale_noise") else None
        x_t = add(x_0, t, eps) if add else scheduler.add_noise(x_0, eps, t)
        level = step_levels(scheduler)[i]
        # Euler-like, EDM and Heun schedulers keep x_0 + sigma eps; the others, and flows, the network's own state
        alpha, sigma = table.amplitudes(level)
        kept = {True: (1.0, float(level)), False: (float(alpha), float(sigma))}[_keeps_edm_states(scheduler)]
        torch.testing.assert_close(x_t, kept[0] * x_0 + kept[1] * eps, rtol=2e-4, atol=2e-4 * kept[1])


def _keeps_edm_states(scheduler: Any) -> bool:
    name = type(scheduler).__name__
    return any(part in name for part in ("EulerDiscrete", "EulerAncestral", "Heun", "LMS", "KDPM2", "EDM")) and (
        not name.startswith("FlowMatch")
    )


@variants
def test_the_network_is_called_with_the_scheduler_s_timesteps(variant: str) -> None:
    """At each step's level our timestep is the scheduler's own, up to its rounding to whole ones."""
    scheduler = make(variant)
    scheduler.set_timesteps(8)
    table, levels = noise_table(scheduler), step_levels(scheduler)
    inside = within(levels, *table.range, rounding_at(levels))
    assert int(inside.sum()) >= len(levels) - 2
    ours, theirs = table.timestep(levels[inside]), scheduler.timesteps.double()[inside]
    # Karras and DPM schedules round; and some compute their timestep in float32
    whole = bool((theirs == theirs.round()).all())
    reach = 1.01 if whole else 2e-3 * float(table.timesteps[-1] - table.timesteps[0])
    assert float((ours - theirs).abs().max()) <= reach


@variants
def test_every_unit_goes_both_ways(variant: str) -> None:
    """Timestep, percent, step and VP time of a level, and back; each falls as the level does."""
    scheduler = make(variant)
    scheduler.set_timesteps(20)
    table = noise_table(scheduler)
    low, high = (math.log(end) for end in table.range)
    levels = torch.linspace(low + 1e-6, high - 1e-6, 301, dtype=torch.float64).exp()
    torch.testing.assert_close(table.level(table.timestep(levels)), levels, rtol=1e-9, atol=0)
    assert bool((table.timestep(levels).diff() > 0).all())
    percents = [table.percent(float(level)) for level in levels]
    assert all(a > b for a, b in pairwise(percents))
    back = torch.tensor([table.level_at_percent(p) for p in percents], dtype=torch.float64)
    torch.testing.assert_close(back, levels, rtol=1e-8, atol=0)
    times = VP().time(levels)
    torch.testing.assert_close(VP().noise_level(times), levels, rtol=1e-8, atol=0)
    calls = step_levels(scheduler)
    assert len(calls) == len(scheduler.timesteps)
    for i, level in enumerate(calls.tolist()):
        at = step_at(calls, level)
        assert float(calls[at]) == pytest.approx(level)
        assert at <= i


def test_levels_of_a_known_schedule() -> None:
    """DDPM's linear schedule ends at abar = 4.04e-5 and begins at 1 - 1e-4; Stable Diffusion's ends at 14.61."""
    low, high = noise_table(make("ddpm")).range
    assert low == pytest.approx(math.sqrt(1e-4 / (1 - 1e-4)), rel=1e-3)
    assert high == pytest.approx(157.4, rel=1e-3)
    assert noise_table(make("euler")).range[1] == pytest.approx(14.6146, rel=1e-4)
    # a flow halfway is at level 1, whatever its shift; a shift of 3 passes there at 1/4 of the time left
    for variant, percent in (("flow-euler", 0.5), ("flow-euler-shifted", 0.75)):
        table = noise_table(make(variant))
        assert float(table.level(500.0)) == pytest.approx(1.0)
        assert table.percent(1.0) == pytest.approx(percent)


def test_karras_levels_are_not_those_of_rounded_timesteps() -> None:
    """The levels of a Karras schedule are EDM's rho grid, which a lookup by timestep would miss."""
    scheduler = make("euler-karras")
    scheduler.set_timesteps(10)
    levels = step_levels(scheduler)
    root = levels ** (1 / 7)
    torch.testing.assert_close(root.diff(), root.diff()[0].expand(9), rtol=1e-4, atol=1e-5)


def test_calls_between_two_levels_have_their_own() -> None:
    """KDPM2 calls the network at its interpolated sigmas too."""
    scheduler = make("kdpm2")
    scheduler.set_timesteps(6)
    levels = step_levels(scheduler)
    torch.testing.assert_close(levels[1::2], scheduler.sigmas_interpol[1:-3:2].double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(levels[::2], scheduler.sigmas[:-3:2].double(), rtol=1e-3, atol=0)


@pytest.mark.filterwarnings("ignore:scheduler. the schedule of")
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
@pytest.mark.parametrize("betas", [{}, SCALED], ids=["linear", "scaled"])
def test_schedules_without_signal_end_at_a_finite_level(name: str, betas: dict[str, Any]) -> None:
    """Zero signal is given Euler's alpha^2 = 2^-24, level 4096; networks are asked below, where there is some."""
    table = noise_table(getattr(diffusers, name)(**betas, rescale_betas_zero_snr=True))
    assert (float(table.timesteps[-1]), float(table.levels[-1])) == (999.0, pytest.approx(4096.0, rel=1e-6))
    assert bool((table.levels.diff() > 0).all())
    assert 100 < table.range[1] < 3163


@variants
@pytest.mark.parametrize("ulps", [-2, -1, 1, 2])
def test_last_digits_of_a_table_s_ends_change_nothing(variant: str, ulps: int) -> None:
    """A table of another processor: its ends are some float32 steps away, and the same steps lie in its range."""
    scheduler = make(variant)
    scheduler.set_timesteps(8)
    table, calls = noise_table(scheduler), step_levels(scheduler)
    moved = replace(table, levels=table.levels.clone())
    for end in (0, -1):
        sigma = table.amplitudes(table.levels[end])[1]
        # flows keep s in float32, the others the level
        number = (sigma if table.kind == "flow" else table.levels[end]).float() * (1 + ulps * 2.0**-23)
        moved.levels[end] = number.double() / (1 - number.double()) if table.kind == "flow" else number.double()
        assert moved.levels[end] != table.levels[end]
    ends = torch.tensor(table.range, dtype=torch.float64)
    torch.testing.assert_close(moved.timestep(ends), table.timestep(ends), rtol=1e-5, atol=1e-2)
    inside = [within(calls, *t.range, rounding_at(calls)) for t in (table, moved)]
    assert inside[0].tolist() == inside[1].tolist()
    torch.testing.assert_close(moved.timestep(calls[inside[0]]), table.timestep(calls[inside[0]]), rtol=1e-5, atol=1e-2)
    for level in table.range:
        assert moved.percent(level) == pytest.approx(table.percent(level), abs=1e-5)
        assert step_at(calls, level * (1 + ulps * 2.0**-23)) == step_at(calls, level)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.IPNDMScheduler(), "scheduler: IPNDMScheduler has neither alphas_cumprod nor the sigmas"),
        (diffusers.KarrasVeScheduler(), "scheduler: KarrasVeScheduler has neither"),
    ],
    ids=["ipndm", "karras-ve"],
)
def test_unknown_schedulers_are_named_with_what_they_lack(scheduler: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_table(scheduler)


def test_a_network_by_its_alphas_alone_is_given_the_same_timesteps() -> None:
    """from_discrete and the loader of pipelines agree on every level of a schedule."""
    scheduler = make("ddim")
    table, asked = noise_table(scheduler), []
    denoiser = from_discrete(lambda x_t, t: asked.append(t) or x_t, scheduler.alphas_cumprod)
    low, high = denoiser.levels
    assert (low, high) == pytest.approx(table.range)
    levels = torch.logspace(math.log10(low), math.log10(high), 40, dtype=torch.float64)
    denoiser(torch.zeros(40, 1, 2, 2, dtype=torch.float64), levels)
    torch.testing.assert_close(asked[0], table.timestep(levels))


def test_levels_beyond_the_range_are_refused() -> None:
    table = noise_table(make("euler"))
    with pytest.raises(ValueError, match=r"sigma: got 20 to 20; expected noise levels in \[0.02917, 14.61\]"):
        table.timestep(20.0)
    table.timestep(table.range[1] * (1 + 1e-7))
